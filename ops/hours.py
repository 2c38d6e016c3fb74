"""Hours of the day, as an operator writes them: "22-6", "8:30-12"."""

from __future__ import annotations

import re
import time

_HOURS = re.compile(r"(\d{1,2})(?::(\d\d))?-(\d{1,2})(?::(\d\d))?")

DAY_MIN = 24 * 60


def parse_hours(text: str) -> tuple[int, int]:
    """From and to, in minutes after midnight. Raises ValueError."""
    found = _HOURS.fullmatch(text.replace(" ", ""))
    if found is not None:
        start, end = (60 * int(found[hour]) + int(found[hour + 1] or 0) for hour in (1, 3))
        if start < DAY_MIN and end <= DAY_MIN and start != end and all(int(found[minute] or 0) < 60 for minute in (2, 4)):
            return start, end
    raise ValueError("write two different times of the day, such as 22-6 or 8:30-12, or nothing for all day")


def within_hours(text: str, now: float) -> bool:
    """Whether Unix time ``now`` is in these hours of local time (the end is not); "" is all day."""
    if not text:
        return True
    start, end = parse_hours(text)
    local = time.localtime(now)
    minute = 60 * local.tm_hour + local.tm_min
    return start <= minute < end if start < end else minute >= start or minute < end
