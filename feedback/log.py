"""The event log, as everybody else sees it.

A log has four topics of P partitions; a record's place is (topic, partition, offset); offsets are dense and start at 0.
Events with one key share a partition (murmur2, as Kafka's own clients), so their order is kept.

A tombstone is a record without a body, as Kafka's tools write it: it keeps its offset, and readers pass it. Nothing here
writes one. A record that Kafka has taken cannot be emptied in its place, and compaction by key would take a conversation's
other events with it; what people wrote is erased by destroying the key that it is sealed with, wherever copies of it are.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from typing import NamedTuple, Protocol, TypeVar

from feedback.events import Event, Topic

PARTITIONS = 12

_T = TypeVar("_T")


class Position(NamedTuple):
    topic: Topic
    partition: int
    offset: int


class Record(NamedTuple):
    position: Position
    event: Event


class LogError(Exception):
    """Base of the log's errors."""

    status = 500
    code = "log_error"


class LogUnavailable(LogError, ConnectionError):
    """The log cannot make an event durable now (disk full or failing, writer stopped). Nothing was acknowledged."""

    status = 503
    code = "log_unavailable"


class EventConflict(LogError, ValueError):
    """An event id is known already, with another body."""

    status = 409
    code = "idempotency_conflict"


class EventTooLarge(LogError, ValueError):
    """An event has more bytes than a Kafka broker takes by default (see `feedback.codec.MAX_EVENT_BYTES`)."""

    status = 413
    code = "event_too_large"


class OffsetOutOfRange(LogError, LookupError):
    """A reader asked for an offset below the log's start or beyond its end: data it relied on is gone."""


class EventLog(Protocol):
    """Append-only, idempotent by event id, durable before acknowledged. Thread-safe.

    Errors: `LogUnavailable` from everything; `EventConflict` and `EventTooLarge` from `append` and through the future of
    `submit`; `OffsetOutOfRange` from `read`. Two events with one id are the same if all but their times is equal.
    """

    def submit(self, event: Event) -> Future[Position]:
        """Queue an event; the future holds its position once it is on disk. The same event again → the same position."""
        ...

    def append(self, events: Sequence[Event], timeout: float = 10.0) -> list[Position]:
        """Submit all, wait until all are durable (seconds)."""
        ...

    def holds(self, ids: Collection[str]) -> bool:
        """Whether events of all these ids have been made durable on this machine, by whichever process."""
        ...

    def check_writable(self, timeout: float = 10.0) -> None:
        """Return once something has been made durable, as an event would be (seconds)."""
        ...

    def partitions(self, topic: Topic) -> int: ...

    def read(self, topic: Topic, partition: int, offset: int, limit: int = 1000) -> list[Record]:
        """Durable records from ``offset`` on, in order; empty at the end of the log.

        Bytes that are no event come as a `DeadLetter` at their position, and are copied to the dead-letter topic; a
        tombstone comes as an `Unrecognized`.
        """
        ...

    def earliest(self, topic: Topic, partition: int) -> int: ...

    def end(self, topic: Topic, partition: int) -> int:
        """The offset the next record will get."""
        ...

    def commit(self, group: str, topic: Topic, partition: int, offset: int) -> None:
        """Note how far a group has read: for display of lag only, readers keep their own offsets."""
        ...

    def committed(self, group: str, topic: Topic, partition: int) -> int | None: ...

    def close(self) -> None: ...


def wait_all(futures: Sequence[Future[_T]], timeout: float = 10.0) -> list[_T]:
    """The results of all futures. Raises what they raise, and `LogUnavailable` after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    try:
        return [future.result(max(0.0, deadline - time.monotonic())) for future in futures]
    except TimeoutError as error:
        raise LogUnavailable(f"the log could not be written within {timeout} s") from error


def refused(error: LogError) -> Future[_T]:
    """A future that has failed already."""
    future: Future[_T] = Future()
    future.set_exception(error)
    return future


class TopicReader:
    """Reads one topic of a log from its own offsets; the caller decides when those are worth keeping.

    A backend may store an event twice (Kafka, after a retry): later copies are dropped if the first is among the
    last `_REMEMBERED` events of this reader. Who keeps offsets over a restart still drops copies by event id.

    Records that were read before the log failed are returned, and the failure is raised by the next call: the offsets
    never pass a record that nobody got. What goes for its age before anything of its partition was read is not missed: the
    log's beginning has moved, that is all. `OffsetOutOfRange` is for what went unread after an offset given or come to.
    """

    _REMEMBERED = 50_000

    def __init__(self, log: EventLog, topic: Topic, offsets: dict[int, int] | None = None) -> None:
        self._log = log
        self.topic = topic
        self._from = offsets or {}
        self._begun = {*self._from}
        self._offsets: dict[int, int] | None = None
        self._seen: dict[str, None] = {}
        self._failure: LogError | None = None

    @property
    def offsets(self) -> dict[int, int]:
        """Next offset to read, by partition. The log is asked for its partitions at the first look, not before."""
        if self._offsets is None:
            self._offsets = self._beginning()
        return self._offsets

    def poll(self, limit: int = 1000) -> list[Record]:
        """New records of every partition, at most ``limit`` of each; advances the reader's offsets past them."""
        records: list[Record] = []
        try:
            self._raise_failure()
            while not records and self._read(records, limit):
                pass  # what was read were copies only
        except LogError as error:
            self._put_off(error, records)
        return records

    def drain(self) -> list[Record]:
        """Everything up to the end of the log as it was when a poll first came back empty."""
        records: list[Record] = []
        try:
            while batch := self.poll():
                records += batch
        except LogError as error:
            self._put_off(error, records)
        return records

    def everything(self) -> list[Record]:
        """As `drain`, for who will not ask again: all there is, or the log's failure."""
        records = self.drain()
        self._raise_failure()
        return records

    def lag(self) -> int:
        """How many records are behind the end of the log."""
        offsets = self._beginning() if self._offsets is None else self._offsets  # another thread may ask
        return sum(self._log.end(self.topic, p) - offset for p, offset in offsets.items())

    def _beginning(self) -> dict[int, int]:
        return {p: self._log.earliest(self.topic, p) for p in range(self._log.partitions(self.topic))} | self._from

    def _read(self, records: list[Record], limit: int) -> bool:
        """Adds what is new to ``records``; False at the end of the log."""
        found = False
        for partition, offset in self.offsets.items():
            batch = self._batch(partition, offset, limit)
            if batch:
                found = True
                self._begun.add(partition)
                self.offsets[partition] = batch[-1].position.offset + 1
            records += [record for record in batch if self._is_new(record)]
        return found

    def _batch(self, partition: int, offset: int, limit: int) -> list[Record]:
        try:
            return self._log.read(self.topic, partition, offset, limit)
        except OffsetOutOfRange:
            earliest = self._log.earliest(self.topic, partition)
            if partition in self._begun or earliest <= offset:
                raise
        self.offsets[partition] = earliest
        return self._log.read(self.topic, partition, earliest, limit)

    def _put_off(self, error: LogError, records: list[Record]) -> None:
        """Keep the failure for the next call if there is something to return now."""
        if not records:
            raise error
        self._failure = error

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _is_new(self, record: Record) -> bool:
        if record.event.id in self._seen:
            return False
        self._seen[record.event.id] = None
        if len(self._seen) > self._REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return True
