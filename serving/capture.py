"""Completion events on their way to the log, off the path of the answers: queued, bounded, written in groups.

While the log is down the events wait here and chat goes on; what the bounds cannot hold is counted, never silent.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection
from itertools import islice

import structlog

from feedback.events import CompletionCreated, Event
from feedback.log import EventLog, LogError, LogUnavailable
from feedback.seal import KeysUnavailable, Owner, owner_of
from ops import metrics

_GROUP = 256
_GATHER_S = 0.05
"""How long the first event of a group waits for others: one transaction for all of them disturbs the answers least."""

_APPEND_TIMEOUT_S = 5.0
_RETRY_S = 0.5

_logger = structlog.get_logger(__name__)


class AnswerUnsealed(KeysUnavailable):
    """An answer waits here for its user's key, so nothing can be said about it yet."""


class Capture:
    """For one event loop: `put` from its tasks only."""

    def __init__(self, log: EventLog, max_events: int = 20_000, max_bytes: int = 64 * 2**20, retry_s: float = _RETRY_S) -> None:
        self._log = log
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._retry_s = retry_s
        self._queue: dict[str, Event] = {}
        """By id, in order."""
        self._keyless: set[Owner] = set()
        """Whose events wait for a key, while those of others go on."""
        self._lacking: set[Owner] = set()
        """Who had no key when theirs was tried last: unlike the above, kept while it is tried again."""
        self._news = asyncio.Event()
        """Set, and replaced, whenever something has been written, or cannot be for want of a key."""
        self._bytes = 0
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        """Somebody waits for what is queued: it is written at once."""
        self._stopping = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        metrics.LOG_UP.set(1)
        self._task = asyncio.create_task(self._run(), name="capture")

    def put(self, event: Event) -> None:
        """Queue an event of a new id for the log. Never waits; an event beyond the bounds is dropped and counted."""
        size = _size(event)
        if len(self._queue) >= self._max_events or self._bytes + size > self._max_bytes:
            metrics.CAPTURE_LOST.inc()
            _logger.error("capture_overflow", queued=len(self._queue))
            return
        self._queue[event.id] = event
        self._bytes += size
        self._empty.clear()
        self._wake.set()
        metrics.CAPTURE_QUEUE.set(len(self._queue))

    @property
    def waiting(self) -> int:
        """Events not yet durable."""
        return len(self._queue)

    async def settled(self, ids: Collection[str], timeout_s: float) -> None:
        """Return once none of these events waits any more.

        Raises `AnswerUnsealed` at once where one waits for a key, and `LogUnavailable` after so many seconds.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not self._queue.keys().isdisjoint(ids):
                    self._check_sealable(ids)
                    self._hurry.set()
                    await self._news.wait()
        except TimeoutError as error:
            raise LogUnavailable(f"an answer could not be written within {timeout_s} s") from error

    def _check_sealable(self, ids: Collection[str]) -> None:
        owners = {owner_of(self._queue[id]) for id in ids if id in self._queue}
        if lacking := self._lacking & owners:
            raise AnswerUnsealed("the answer waits for its user's text key", lacking)

    async def stop(self, timeout_s: float) -> None:
        """Write what is queued, for at most ``timeout_s`` seconds; the rest is counted as lost."""
        if self._task is None:
            return
        self._hurry.set()
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            metrics.CAPTURE_LOST.inc(len(self._queue))
            _logger.error("capture_lost_at_shutdown", events=len(self._queue))
        self._stopping = True
        self._wake.set()
        await self._task
        self._task = None

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            if self._stopping:
                return
            if not self._queue:
                self._wake.clear()
                self._empty.set()
                continue
            if len(self._queue) < _GROUP and not self._hurry.is_set():
                await self._gather()
            self._hurry.clear()
            group = self._next_group()
            if not group:  # all wait for keys: try again, from the first on
                self._keyless.clear()
                await asyncio.sleep(self._retry_s)
                continue
            try:
                await asyncio.to_thread(self._log.append, group, _APPEND_TIMEOUT_S)
            except KeysUnavailable as error:
                metrics.LOG_UP.set(0)
                _logger.warning("capture_waits", error=str(error), queued=len(self._queue))
                self._keyless |= error.owners
                self._lacking = self._lacking - {owner_of(event) for event in group} | error.owners
                self._tell()
            except LogUnavailable as error:
                metrics.LOG_UP.set(0)
                _logger.warning("capture_waits", error=str(error), queued=len(self._queue))
                await asyncio.sleep(self._retry_s)
            except (LogError, ValueError):  # one event of the group is refused: find it
                if await self._append_singly(group):
                    self._done(group)
            else:
                self._done(group)

    def _next_group(self) -> list[Event]:
        """The first that wait for no key, in order."""
        waiting = self._queue.values()
        ready = (event for event in waiting if owner_of(event) not in self._keyless) if self._keyless else waiting
        return list(islice(ready, _GROUP))

    async def _append_singly(self, group: list[Event]) -> bool:
        """Append what can be; False when the log went down meanwhile, and all of the group must be tried again."""
        for event in group:
            try:
                await asyncio.to_thread(self._log.append, [event], _APPEND_TIMEOUT_S)
            except LogUnavailable:
                await asyncio.sleep(self._retry_s)
                return False
            except (LogError, ValueError) as error:
                metrics.CAPTURE_LOST.inc()
                _logger.error("capture_refused", event_id=event.id, error=str(error))
        return True

    async def _gather(self) -> None:
        """Let a group come together, unless there is no time for that."""
        try:
            async with asyncio.timeout(_GATHER_S):
                await self._hurry.wait()
        except TimeoutError:
            return

    def _done(self, group: list[Event]) -> None:
        metrics.LOG_UP.set(1)
        for event in group:
            del self._queue[event.id]
            self._bytes -= _size(event)
        self._lacking -= {owner_of(event) for event in group}
        self._tell()
        metrics.CAPTURE_QUEUE.set(len(self._queue))

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _size(event: Event) -> int:
    """Bytes of memory that an event's text takes, and what the rest of it comes to."""
    assert isinstance(event.data, CompletionCreated)
    text = event.data.text
    calls = [*text.tool_calls, *(call for message in text.messages for call in message.tool_calls)]
    parts = [text.answer, *(message.content for message in text.messages), *(call.arguments for call in calls)]
    return 2048 + sum(map(sys.getsizeof, parts))
