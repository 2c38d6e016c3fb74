"""Whether the event log can be written, found out by writing: a disk that is full reads as well as ever; and gets to Kafka."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from feedback.log import EventLog, LogError, LogUnavailable

_FRESH_S = 1.0
"""How long an outcome is believed: whoever asks, and however often, there is no more than one write a second."""

_PATIENCE_S = 2.0
"""How long a write may take before that is told."""

_TIMEOUT_S = 10.0

_LATE_S = 10.0
"""So old is no event that waits for Kafka while all is well."""


class LogCheck:
    """For one event loop."""

    def __init__(self, log: EventLog, clock: Callable[[], float] = time.monotonic, patience_s: float = _PATIENCE_S) -> None:
        self._log, self._clock, self._patience_s = log, clock, patience_s
        self._write: asyncio.Task[None] | None = None
        self._begun = float("-inf")

    async def trouble(self) -> list[str]:
        """What is wrong, in words for an operator; empty while the log can be written, and Kafka takes what is."""
        return await self._unwritten() or await asyncio.to_thread(_unforwarded, self._log)

    async def _unwritten(self) -> list[str]:
        if self._write is None or (self._write.done() and self._clock() - self._begun >= _FRESH_S):
            self._begun = self._clock()
            self._write = asyncio.create_task(asyncio.to_thread(self._log.check_writable, _TIMEOUT_S), name="log-check")
        done, _ = await asyncio.wait((self._write,), timeout=self._patience_s)
        error = self._write.exception() if done else LogUnavailable("the log is being written too slowly")
        if error is None:
            return []
        if not isinstance(error, LogError):
            raise error
        return [f"{error}: answers go on and wait in memory for it, feedback is refused"]


def _unforwarded(log: EventLog) -> list[str]:
    """In a cluster: that Kafka does not take events, by this process's tries, or by the outbox where another process forwards."""
    forwarder = getattr(log, "forwarder", None)
    if forwarder is None:
        return []
    try:
        oldest_s: float = forwarder.oldest_s
    except LogError:  # the outbox itself is in trouble, which the next look tells
        return []
    if not oldest_s or not (forwarder.failing or oldest_s >= _LATE_S):
        return []
    what = "does not answer" if forwarder.failing else "is behind"
    return [f"Kafka {what}: events wait in the outbox, the oldest for {oldest_s:.0f} s, and nothing is learned from them yet"]
