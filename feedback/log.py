"""The event log, as everybody else sees it.

A log has four topics of P partitions; a record's place is (topic, partition, offset); offsets are dense and start at 0.
Events with one key share a partition (murmur2, as Kafka's own clients), so their order is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple, Protocol

from feedback.events import Event, Topic

PARTITIONS = 12


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


class OffsetOutOfRange(LogError, LookupError):
    """A reader asked for an offset below the log's start or beyond its end: data it relied on is gone."""


class EventLog(Protocol):
    """Append-only, idempotent by event id, durable before acknowledged. Thread-safe.

    Errors: `LogUnavailable`, `EventConflict` from appends; `OffsetOutOfRange` from `read`.
    """

    def submit(self, event: Event) -> Future[Position]:
        """Queue an event; the future holds its position once it is on disk. The same event again → the same position."""
        ...

    def append(self, events: Sequence[Event], timeout: float = 10.0) -> list[Position]:
        """Submit all, wait until all are durable (seconds)."""
        ...

    def partitions(self, topic: Topic) -> int: ...

    def read(self, topic: Topic, partition: int, offset: int, limit: int = 1000) -> list[Record]:
        """Durable records from ``offset`` on, in order; empty at the end of the log."""
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


Offsets = dict[Topic, dict[int, int]]
"""Next offset to read, by topic and partition."""


class TopicReader:
    """Reads one topic of a log from its own offsets; the caller decides when those are worth keeping."""

    def __init__(self, log: EventLog, topic: Topic, offsets: dict[int, int] | None = None) -> None:
        self._log = log
        self.topic = topic
        self.offsets = {p: log.earliest(topic, p) for p in range(log.partitions(topic))} | (offsets or {})

    def poll(self, limit: int = 1000) -> list[Record]:
        """New records of every partition, at most ``limit`` of each; advances the reader's offsets past them."""
        records: list[Record] = []
        for partition, offset in self.offsets.items():
            batch = self._log.read(self.topic, partition, offset, limit)
            if batch:
                self.offsets[partition] = batch[-1].position.offset + 1
            records += batch
        return records

    def drain(self) -> list[Record]:
        """Everything up to the end of the log as it was when a poll first came back empty."""
        records: list[Record] = []
        while batch := self.poll():
            records += batch
        return records

    def lag(self) -> int:
        """How many records are behind the end of the log."""
        return sum(self._log.end(self.topic, p) - offset for p, offset in self.offsets.items())
