"""Reads a cluster's records from any place."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kafka import KafkaConsumer
from kafka.errors import KafkaError, KafkaTimeoutError, OffsetOutOfRangeError
from kafka.structs import OffsetAndMetadata, TopicPartition

from feedback.cluster.client import DEADLINE_S, Cluster
from feedback.codec import decode_record
from feedback.events import TOPICS, Topic
from feedback.forwarder import SendFailed
from feedback.log import LogUnavailable, OffsetOutOfRange, Position, Record

_FRESH_S = 0.02
"""How long a topic's bounds are believed: one round of polls asks for them once."""

_WHOLE_FETCH = 10_000_000
"""More records than fit into a fetch."""

_CONSUMER: dict[str, Any] = {
    "enable_auto_commit": False,
    "auto_offset_reset": "none",
    "allow_auto_create_topics": False,
    "fetch_max_wait_ms": 20,  # records are only asked for when they are known to be there
    "metrics_enabled": False,
}


class KafkaReader:
    """Reads any place of our topics; a client that fails is dropped and the next call builds another. Thread-safe."""

    def __init__(self, cluster: Cluster, ensure_topics: Callable[[], None]) -> None:
        self._cluster = cluster
        self._ensure_topics = ensure_topics
        self._lock = threading.Lock()
        self._consumer: Any = None
        self._groups: dict[str, Any] = {}
        self._bounds: dict[Topic, tuple[float, dict[int, tuple[int, int]]]] = {}
        self._ahead: dict[TopicPartition, list[Any]] = {}
        """Fetched and not asked for yet: less than a fetch of each partition, a megabyte."""

    def bounds(self, topic: Topic, partition: int) -> tuple[int, int]:
        """First offset kept, and the next one to come."""
        with self._client() as consumer:
            return self._bounds_of(consumer, topic)[partition]

    def read(self, topic: Topic, partition: int, offset: int, limit: int) -> list[Record]:
        with self._client() as consumer:
            earliest, end = self._bounds_of(consumer, topic)[partition]
            if not earliest <= offset <= end:
                raise OffsetOutOfRange(f"{topic}/{partition}: offset {offset} is not in {earliest}..{end}")
            return [] if offset == end else self._fetch(consumer, topic, partition, offset, limit)

    def commit(self, group: str, topic: Topic, partition: int, offset: int) -> None:
        with self._client(group) as consumer:
            place = self._cluster.place(topic, partition)
            consumer.commit({place: OffsetAndMetadata(offset, "", -1)}, timeout_ms=DEADLINE_S * 1000)

    def committed(self, group: str, topic: Topic, partition: int) -> int | None:
        with self._client(group) as consumer:
            found = consumer.committed(self._cluster.place(topic, partition), timeout_ms=DEADLINE_S * 1000)
            return None if found is None or found < 0 else int(found)

    def close(self) -> None:
        with self._lock:
            self._drop()

    @contextmanager
    def _client(self, group: str | None = None) -> Iterator[Any]:
        with self._lock:
            try:
                if group is None:
                    self._consumer = self._consumer or self._reader()
                    yield self._consumer
                else:
                    if group not in self._groups:
                        self._groups[group] = self._cluster.open(KafkaConsumer, group_id=group, **_CONSUMER)
                    yield self._groups[group]
            except OffsetOutOfRangeError as error:  # trimmed since its bounds were asked for
                raise OffsetOutOfRange(str(error)) from error
            except (KafkaError, OSError, SendFailed) as error:
                self._drop()
                raise LogUnavailable(f"Kafka could not be read: {error}") from error

    def _reader(self) -> Any:
        """A consumer of all our partitions, all paused: each read resumes the one it is about."""
        self._ensure_topics()
        consumer = self._cluster.open(KafkaConsumer, **_CONSUMER)
        places = [self._cluster.place(topic, p) for topic in TOPICS for p in range(self._cluster.partitions)]
        consumer.assign(places)
        for place in places:
            consumer.seek(place, 0)
        consumer.pause(*places)
        return consumer

    def _bounds_of(self, consumer: Any, topic: Topic) -> dict[int, tuple[int, int]]:
        at, bounds = self._bounds.get(topic, (float("-inf"), {}))
        if time.monotonic() - at > _FRESH_S:
            places = [self._cluster.place(topic, p) for p in range(self._cluster.partitions)]
            first = _patiently(lambda: consumer.beginning_offsets(places, timeout_ms=DEADLINE_S * 1000))
            end = _patiently(lambda: consumer.end_offsets(places, timeout_ms=DEADLINE_S * 1000))
            bounds = {place.partition: (first[place], end[place]) for place in places}
            self._bounds[topic] = time.monotonic(), bounds
        return bounds

    def _fetch(self, consumer: Any, topic: Topic, partition: int, offset: int, limit: int) -> list[Record]:
        """Records that are known to be there. What the client had fetched beyond ``limit`` is kept for the next call."""
        place = self._cluster.place(topic, partition)
        messages = self._ahead.pop(place, [])
        if not messages or messages[0].offset != offset:
            messages = self._poll(consumer, place, offset)
        if messages[limit:]:
            self._ahead[place] = messages[limit:]
        now = time.time()
        return [
            decode_record(Position(topic, partition, message.offset), message.value or b"", list(message.headers), now)
            for message in messages[:limit]
        ]

    def _poll(self, consumer: Any, place: TopicPartition, offset: int) -> list[Any]:
        """All that one fetch brings: kafka-python never gives out what it holds back of a partition that is then paused."""
        if consumer.position(place, timeout_ms=0) != offset:
            consumer.seek(place, offset)
        consumer.resume(place)
        try:
            found: list[Any] = consumer.poll(timeout_ms=DEADLINE_S * 1000, max_records=_WHOLE_FETCH).get(place, [])
        finally:
            consumer.pause(place)
        if not found:
            raise KafkaTimeoutError(f"nothing of {place.topic}/{place.partition} from offset {offset} within {DEADLINE_S} s")
        return found

    def _drop(self) -> None:
        for consumer in [self._consumer, *self._groups.values()]:
            if consumer is not None:
                with suppress(KafkaError, OSError):
                    consumer.close(timeout_ms=1000)
        self._consumer = None
        self._groups.clear()
        self._bounds.clear()
        self._ahead.clear()


def _patiently(offsets: Callable[[], dict[TopicPartition, int]]) -> dict[TopicPartition, int]:
    """kafka-python leaves out a partition that has no leader yet, and then does not find it itself: ask again."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return offsets()
        except KeyError as error:
            if time.monotonic() > deadline:
                raise KafkaTimeoutError(f"no leader for {error} within {DEADLINE_S} s") from error
            time.sleep(0.05)
