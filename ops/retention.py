"""The settings' retention, kept: the controller deletes what an embedded log has held for longer.

A cluster's brokers delete by themselves: there the controller gives the topics the settings for it, whoever made them. One
process does, so that those with other settings do not undo each other's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import structlog

from feedback.events import Topic
from feedback.log import EventLog
from feedback.retention import forget
from feedback.sqlite_log import SqliteLog
from ops.settings import RetentionSettings

_EVERY_S = 3600.0
_DAY_S = 86_400

_logger = structlog.get_logger(__name__)


def days_of(retention: RetentionSettings) -> Mapping[Topic, float]:
    """Days by topic; those kept for ever are left out. Feedback first: it goes before what it is about."""
    days: dict[Topic, float | None] = {
        "feedback": retention.feedback_days,
        "completions": retention.completions_days,
        "dead-letter": retention.dead_letter_days,
    }
    return {topic: limit for topic, limit in days.items() if limit is not None}


def letter_hours(retention: RetentionSettings) -> float:
    """How old feedback may be for a letter about it to be in the log still."""
    return math.inf if retention.dead_letter_days is None else 24 * retention.dead_letter_days


class Retention:
    """Of one log."""

    def __init__(self, log: EventLog, retention: RetentionSettings, clock: Callable[[], float] = time.time) -> None:
        inner = getattr(log, "inner", log)
        self._log = inner if isinstance(inner, SqliteLog) else None
        self._hold_topics: Callable[[], None] | None = getattr(inner, "hold_topics", None)
        self._days, self._clock = days_of(retention), clock
        self._next = float("-inf")

    def keep(self) -> dict[Topic, int]:
        """Delete what is too old, or let the cluster do it, if an hour has gone since the last time; how many records of which
        topic were deleted here.

        Raises `LogUnavailable`.
        """
        now = self._clock()
        if now < self._next:
            return {}
        if self._hold_topics is not None:
            self._hold_topics()
        forgotten = {} if self._log is None else self._forget(self._log, now)
        self._next = now + _EVERY_S
        return forgotten

    def _forget(self, log: SqliteLog, now: float) -> dict[Topic, int]:
        forgotten = {topic: forget(log, topic, now - days * _DAY_S) for topic, days in self._days.items()}
        if any(forgotten.values()):
            _logger.info("events_forgotten", **{topic.replace("-", "_"): count for topic, count in forgotten.items()})
        return forgotten
