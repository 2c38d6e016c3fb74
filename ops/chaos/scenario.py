"""One fault, done to a running part of Plaudit: what it comes to, and the little that all of them share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ops.errors import UserError

Size = Literal["short", "full"]

_SHOWN = 5
"""So many problems of a scenario are told; of the others, their number."""


class NotRun(UserError):
    """Something that a scenario needs is not on this machine; the message names it."""


class Stuck(Exception):
    """What had to happen did not, in all the time it was given."""


@dataclass(frozen=True)
class Outcome:
    """What became of the events. The promise: of those acknowledged none is lost, none counts twice, each key's are in order."""

    faults: int
    """How often the fault was done."""
    acknowledged: int
    lost: int
    doubled: int
    """Effects too many: an event that a reader saw twice."""
    reordered: int
    """Events that a reader saw after a later one of their key."""
    recovery_s: float = 0.0
    """The longest time from the end of a fault (a kill is over at once) until events were taken, or arrived, again."""
    problems: tuple[str, ...] = ()
    """Whatever else was not as it should be."""
    note: str = ""

    @property
    def passed(self) -> bool:
        """A scenario in which nothing was acknowledged, or no fault was done, has shown nothing."""
        broken = self.lost or self.doubled or self.reordered or self.problems
        return not broken and self.acknowledged > 0 and self.faults > 0

    def as_json(self) -> dict[str, Any]:
        more = len(self.problems) - _SHOWN
        shown = [*self.problems[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        return asdict(self) | {"problems": shown, "recovery_s": round(self.recovery_s, 2), "passed": self.passed}


def failed(problem: str) -> Outcome:
    """Of a scenario that came to no end."""
    return Outcome(faults=0, acknowledged=0, lost=0, doubled=0, reordered=0, problems=(problem,))


_POLL_S = 0.02
_never = threading.Event()


def pause(seconds: float) -> None:
    """Let a fault last."""
    _never.wait(seconds)


def wait_until(condition: Callable[[], object], what: str, seconds: float) -> float:
    """How long it took until ``condition()`` was true. Raises `Stuck` after ``seconds``."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise Stuck(f"{what}: not within {seconds:.0f} s")
        pause(_POLL_S)
    return time.monotonic() - started
