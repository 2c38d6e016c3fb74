"""The event log in a cluster: appends go to a local outbox (durable, acknowledged) and on to Kafka; reads come from Kafka.

Positions: `submit` and `append` return the event's place in the **outbox**; `read` and all other calls speak of Kafka's
own offsets. An event reaches readers a little after it was acknowledged, or much later if Kafka is away; it may be
stored twice (see `feedback.forwarder`), which `TopicReader` and whoever keeps offsets over a restart undo by event id.
Ids are checked against this outbox only, and for as long as it keeps its rows.

The client's settings avoid kafka-python's traps: its idempotent producer never sends again once a batch has timed out,
its constructor and ``send`` block while Kafka is away, and its topics make themselves with one partition.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import (
    InvalidRecordError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OffsetOutOfRangeError,
    RecordListTooLargeError,
    TopicAlreadyExistsError,
    UnknownError,
)
from kafka.net.compat import KafkaNetClient
from kafka.structs import OffsetAndMetadata, TopicPartition

from feedback.codec import decode_record, letters_among
from feedback.events import TOPICS, DeadLetter, Event, Topic
from feedback.forwarder import Forwarder, RowsRefused, SendFailed
from feedback.log import PARTITIONS, LogError, LogUnavailable, OffsetOutOfRange, Position, Record
from feedback.outbox import Outbox
from feedback.sqlite_log import Row, SqliteLog

_DEADLINE_S = 10.0
"""For one call to Kafka."""

_KNOCK_S = 2.0
"""For a broker's port to take a connection."""

_FRESH_S = 0.02
"""How long a topic's bounds are believed: one round of polls asks for them once."""

_WHOLE_FETCH = 10_000_000
"""More records than fit into a fetch."""

_NEVER_TAKEN = (MessageSizeTooLargeError, RecordListTooLargeError, InvalidRecordError)

_COMMON: dict[str, Any] = {"bootstrap_timeout_ms": 3000, "reconnect_backoff_max_ms": 1000, "request_timeout_ms": 5000}

_PRODUCER: dict[str, Any] = {
    "enable_idempotence": False,
    "max_in_flight_requests_per_connection": 1,
    "acks": "all",
    "batch_size": 900_000,
    # A window is flushed, and given up by the forwarder's own watchdog: a partition's rows of one window are one batch,
    # and no batch expires by itself while a later one goes through.
    "linger_ms": 60_000,
    "delivery_timeout_ms": 600_000,
    "max_block_ms": 5000,
    "allow_auto_create_topics": False,
    "metrics_enabled": False,
}

_CONSUMER: dict[str, Any] = {
    "enable_auto_commit": False,
    "auto_offset_reset": "none",
    "allow_auto_create_topics": False,
    "fetch_max_wait_ms": 20,  # records are only asked for when they are known to be there
    "metrics_enabled": False,
}


class Cluster:
    """How to reach a Kafka, and what our topics are called there."""

    def __init__(self, servers: str, prefix: str, partitions: int, api_version: tuple[int, ...] | None) -> None:
        self._servers = [server.strip() for server in servers.split(",") if server.strip()]
        self._prefix = prefix
        self.partitions = partitions
        self._api_version = api_version

    def name(self, topic: Topic) -> str:
        return f"{self._prefix}.{topic}.v1"

    def place(self, topic: Topic, partition: int) -> TopicPartition:
        return TopicPartition(self.name(topic), partition)

    def open(self, kind: Callable[..., Any], **config: Any) -> Any:
        """A client of kafka-python. One whose constructor fails has started a thread by then, which ends here."""
        self._knock()
        made: list[KafkaNetClient] = []

        def make(**client_config: Any) -> KafkaNetClient:
            made.append(KafkaNetClient(**client_config))
            return made[-1]

        try:
            return kind(bootstrap_servers=self._servers, api_version=self._api_version, kafka_client=make, **(_COMMON | config))
        except (KafkaError, OSError) as error:
            for client in made:
                client.close()
            raise SendFailed(f"Kafka at {','.join(self._servers)} does not answer: {error}") from error

    def _knock(self) -> None:
        """Raises `SendFailed` at once where nobody listens: a client would look for as long as its bootstrap may take."""
        for server in self._servers:
            place = urlsplit("//" + server.rpartition("://")[2])
            with suppress(OSError), socket.create_connection((place.hostname, place.port or 9092), _KNOCK_S):
                return
        raise SendFailed(f"Kafka at {','.join(self._servers)} does not answer: nobody listens there")

    def ensure_topics(self, replication_factor: int, retention_days: Mapping[Topic, float]) -> None:
        """Create what is missing, its events kept for ever where no days are given. Raises `LogError` on a wrong count.

        The control topic is not compacted either. The latest change of a project would do for what is deployed now, but the
        controller replays them all: which rollouts there were, what each promotion cost of the error budget, and which
        adapters were refused follow from its history. It grows by a few events a rollout.
        """
        names = {self.name(topic): topic for topic in TOPICS}
        admin = self.open(KafkaAdminClient)
        try:
            found = {t["name"]: len(t["partitions"]) for t in admin.describe_topics() if t["name"] in names}
            missing = {
                name: {
                    "num_partitions": self.partitions,
                    "replication_factor": replication_factor,
                    "configs": {
                        "retention.ms": str(int(retention_days[topic] * 86_400_000)) if topic in retention_days else "-1",
                        "retention.bytes": "-1",
                        "cleanup.policy": "delete",
                    },
                }
                for name, topic in names.items()
                if name not in found
            }
            if missing:
                with suppress(TopicAlreadyExistsError):
                    admin.create_topics(missing, wait_for_metadata=True)
        except (KafkaError, OSError) as error:
            raise SendFailed(f"Kafka's topics cannot be looked up or made: {error}") from error
        finally:
            admin.close()
        for name, partitions in found.items():
            if partitions != self.partitions:
                raise LogError(f"topic {name} has {partitions} partitions, not {self.partitions}: they never change")


class KafkaSender:
    """One producer, for as long as nothing goes wrong."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._producer = cluster.open(KafkaProducer, **_PRODUCER)

    def send(self, rows: Sequence[Row], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        try:
            sent = [(row, self._send(row)) for row in rows]
            while not all(future.is_done for _, future in sent):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise KafkaTimeoutError(f"no answer within {timeout:.1f} s")
                with suppress(UnknownError):  # what flush() says when a batch was too large, split and queued again
                    self._producer.flush(timeout=left)
        except (KafkaError, OSError, ValueError) as error:
            raise SendFailed(str(error)) from error
        failed = [(row, future.exception) for row, future in sent if future.failed()]
        for _, reason in failed:
            if not isinstance(reason, _NEVER_TAKEN):
                raise SendFailed(str(reason))
        if failed:
            raise RowsRefused([(row, str(reason)) for row, reason in failed])

    def close(self) -> None:
        # The public close() waits for what is under way, for ever if the producer is stuck.
        self._producer._sender.force_close()
        self._producer._sender.join(_DEADLINE_S)
        with suppress(KafkaError, OSError):
            self._producer.close(timeout=0)

    def _send(self, row: Row) -> Any:
        headers = dict(row.headers)
        return self._producer.send(
            self._cluster.name(row.topic),
            value=row.body,
            key=headers["ce_subject"],
            headers=row.headers,
            partition=row.partition,
        )


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
            consumer.commit({place: OffsetAndMetadata(offset, "", -1)}, timeout_ms=_DEADLINE_S * 1000)

    def committed(self, group: str, topic: Topic, partition: int) -> int | None:
        with self._client(group) as consumer:
            found = consumer.committed(self._cluster.place(topic, partition), timeout_ms=_DEADLINE_S * 1000)
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
            first = _patiently(lambda: consumer.beginning_offsets(places, timeout_ms=_DEADLINE_S * 1000))
            end = _patiently(lambda: consumer.end_offsets(places, timeout_ms=_DEADLINE_S * 1000))
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
            found: list[Any] = consumer.poll(timeout_ms=_DEADLINE_S * 1000, max_records=_WHOLE_FETCH).get(place, [])
        finally:
            consumer.pause(place)
        if not found:
            raise KafkaTimeoutError(f"nothing of {place.topic}/{place.partition} from offset {offset} within {_DEADLINE_S} s")
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
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        try:
            return offsets()
        except KeyError as error:
            if time.monotonic() > deadline:
                raise KafkaTimeoutError(f"no leader for {error} within {_DEADLINE_S} s") from error
            time.sleep(0.05)


class KafkaLog:
    """`EventLog` in a cluster. Opens at once, Kafka there or not; raises `LogUnavailable` if the outbox cannot be opened.

    ``forwarder`` has the figures of the way to Kafka: ``lag``, ``oldest_s``, ``rebuilds``, ``forwarded``, ``alive``.
    """

    def __init__(
        self,
        outbox_path: Path | str,
        bootstrap_servers: str,
        topic_prefix: str = "plaudit",
        *,
        partitions: int = PARTITIONS,
        replication_factor: int = -1,
        retention_days: Mapping[Topic, float] | None = None,
        api_version: tuple[int, ...] | None = None,
        ack_timeout_s: float = 10.0,
    ) -> None:
        """``replication_factor`` of topics that have to be made, -1: the broker's default; ``retention_days`` likewise, for ever
        where none are given. ``api_version`` None: ask.
        """
        self._outbox = SqliteLog(outbox_path, partitions)
        self._cluster = Cluster(bootstrap_servers, topic_prefix, partitions, api_version)
        self._replication_factor, self._retention_days = replication_factor, retention_days or {}
        self._reader = KafkaReader(self._cluster, self.create_topics)
        self._to_send = Outbox(self._outbox)
        self.forwarder = Forwarder(self._to_send, self._connect, ack_timeout_s=ack_timeout_s)

    def submit(self, event: Event) -> Future[Position]:
        return self._outbox.submit(event)

    def append(self, events: Sequence[Event], timeout: float = 10.0) -> list[Position]:
        return self._outbox.append(events, timeout)

    def create_topics(self) -> None:
        """Make the topics that are missing, as the forwarder and the first read do. Raises `LogError` on a wrong count."""
        self._cluster.ensure_topics(self._replication_factor, self._retention_days)

    def resend(self, letter: DeadLetter) -> bool:
        """Send an event that Kafka refused (``letter`` stands for it) once more; False if it is not in this outbox."""
        return self._to_send.resend(letter)

    def holds(self, ids: Collection[str]) -> bool:
        return self._outbox.holds(ids)

    def partitions(self, topic: Topic) -> int:
        return self._cluster.partitions

    def read(self, topic: Topic, partition: int, offset: int, limit: int = 1000) -> list[Record]:
        records = self._reader.read(topic, partition, offset, limit)
        for letter in letters_among(records):
            self.submit(letter)  # once, by its id; a failure is made good by the next reader
        return records

    def earliest(self, topic: Topic, partition: int) -> int:
        return self._reader.bounds(topic, partition)[0]

    def end(self, topic: Topic, partition: int) -> int:
        return self._reader.bounds(topic, partition)[1]

    def commit(self, group: str, topic: Topic, partition: int, offset: int) -> None:
        self._reader.commit(group, topic, partition, offset)

    def committed(self, group: str, topic: Topic, partition: int) -> int | None:
        return self._reader.committed(group, topic, partition)

    def close(self) -> None:
        self.forwarder.close()
        self._reader.close()
        self._outbox.close()

    def _connect(self) -> KafkaSender:
        self.create_topics()
        return KafkaSender(self._cluster)
