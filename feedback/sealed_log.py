"""A log whose texts are sealed: around any other, sealing what is appended and opening what is read.

Readers see events as they were written. Where a text's key has been destroyed, ``sealed`` stays and the text is empty.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple, Protocol

import structlog

from feedback.events import Event, Topic
from feedback.log import EventLog, LogError, Position, Record
from feedback.redact import Redact, redact_event
from feedback.seal import DataKey, Owner, SealBroken, key_of, open_event, owner_of, seal_event

_GROUP = 500
"""The most events whose keys are asked for at once."""

_logger = structlog.get_logger(__name__)


class TextKeys(Protocol):
    """Where users' keys are kept. Thread-safe. Raises `LogUnavailable` when they cannot be had, `KeysUnavailable` for some."""

    def known(self, owner: Owner) -> DataKey | None:
        """A user's newest key, if it is in memory and surely not destroyed a while ago. Never waits."""
        ...

    def newest(self, owners: Collection[Owner]) -> Mapping[Owner, DataKey]:
        """The newest key of each; those that have none get one, which is on disk by the time it is returned."""
        ...

    def find(self, wanted: Collection[tuple[Owner, int]]) -> Mapping[tuple[Owner, int], DataKey]:
        """The keys of these versions; those that are destroyed are missing."""
        ...

    def close(self) -> None: ...


class _Waiting(NamedTuple):
    event: Event
    future: Future[Position]


class SealedLog:
    """`EventLog` around ``inner``. What `EventLog` does not name, such as a cluster's ``forwarder``, is the inner log's own.

    ``redact``, if given, is applied to the texts of events before they are sealed. Raises what the inner log does, and
    `LogUnavailable` where the keys cannot be had.
    """

    def __init__(self, inner: EventLog, keys: TextKeys, redact: Redact | None = None) -> None:
        self.inner, self._keys, self._redact = inner, keys, redact
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        """Submitted events, in order, from the first whose key is not in memory on."""
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="text-keys")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def submit(self, event: Event) -> Future[Position]:
        """Never waits: an event whose key is not in memory, or that is to be redacted, goes to a thread, and all behind it."""
        owner = owner_of(event)
        with self._lock:
            if not self._waiting and self._redact is None:
                if owner is None:
                    return self.inner.submit(event)
                key = self._keys.known(owner)
                if key is not None:
                    return self.inner.submit(seal_event(event, key))
            future: Future[Position] = Future()
            self._waiting.append(_Waiting(event, future))
            if len(self._waiting) == 1:
                self._worker.submit(self._work)
        return future

    def append(self, events: Sequence[Event], timeout: float = 10.0) -> list[Position]:
        return self.inner.append(self._sealed(events), timeout)

    def holds(self, ids: Collection[str]) -> bool:
        return self.inner.holds(ids)

    def check_writable(self, timeout: float = 10.0) -> None:
        self.inner.check_writable(timeout)

    def partitions(self, topic: Topic) -> int:
        return self.inner.partitions(topic)

    def read(self, topic: Topic, partition: int, offset: int, limit: int = 1000) -> list[Record]:
        return self._opened(self.inner.read(topic, partition, offset, limit))

    def earliest(self, topic: Topic, partition: int) -> int:
        return self.inner.earliest(topic, partition)

    def end(self, topic: Topic, partition: int) -> int:
        return self.inner.end(topic, partition)

    def commit(self, group: str, topic: Topic, partition: int, offset: int) -> None:
        self.inner.commit(group, topic, partition, offset)

    def committed(self, group: str, topic: Topic, partition: int) -> int | None:
        return self.inner.committed(group, topic, partition)

    def close(self) -> None:
        """What waits is sealed and written first."""
        self._worker.shutdown()
        self.inner.close()
        self._keys.close()

    def _sealed(self, events: Sequence[Event]) -> list[Event]:
        if self._redact is not None:
            events = [redact_event(event, self._redact) for event in events]
        owners = [owner_of(event) for event in events]
        keys = self._keys.newest({owner for owner in owners if owner is not None})
        return [event if owner is None else seal_event(event, keys[owner]) for event, owner in zip(events, owners, strict=True)]

    def _opened(self, records: Sequence[Record]) -> list[Record]:
        wanted = [key_of(record.event) for record in records]
        keys = self._keys.find({want for want in wanted if want is not None})
        return [
            record if want is None or want not in keys else Record(record.position, _open(record, keys[want]))
            for record, want in zip(records, wanted, strict=True)
        ]

    def _work(self) -> None:
        """Submit what waits to the inner log, in order, until nothing does."""
        left = True
        while left:
            with self._lock:
                batch = list(islice(self._waiting, _GROUP))
            running = [one for one in batch if one.future.set_running_or_notify_cancel()]
            try:
                self._hand_over(running)
            finally:  # also when the keys' own bug ends this: nobody waits for ever
                with self._lock:
                    for _ in batch:
                        self._waiting.popleft()
                    left = bool(self._waiting)

    def _hand_over(self, batch: Sequence[_Waiting]) -> None:
        try:
            sealed = self._sealed([one.event for one in batch])
        except (LogError, ValueError) as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            for one in batch:  # one of them cannot be JSON, or its key cannot be had: find it
                self._hand_over([one])
            return
        for one, event in zip(batch, sealed, strict=True):
            _tell(self.inner, event, one.future)


def _tell(inner: EventLog, event: Event, future: Future[Position]) -> None:
    """Submit an event and let ``future`` become what comes of it."""
    try:
        done = inner.submit(event)
    except ValueError as error:
        future.set_exception(error)
        return

    def pass_on(done: Future[Position]) -> None:
        error = done.exception()
        if error is None:
            future.set_result(done.result())
        else:
            future.set_exception(error)

    done.add_done_callback(pass_on)


def _open(record: Record, key: DataKey) -> Event:
    try:
        return open_event(record.event, key)
    except SealBroken as error:  # as if its key were gone: a reader must not stall on it
        place = record.position
        _logger.error("text_unreadable", topic=place.topic, partition=place.partition, offset=place.offset, error=str(error))
        return record.event
