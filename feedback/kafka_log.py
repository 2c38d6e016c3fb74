"""The event log in a cluster: appends go to a local outbox (durable, acknowledged) and on to Kafka; reads come from Kafka.

Positions: `submit` and `append` return the event's place in the **outbox**; `read` and all other calls speak of Kafka's
own offsets. An event reaches readers a little after it was acknowledged, or much later if Kafka is away; it may be
stored twice (see `feedback.forwarder`), which `TopicReader` and whoever keeps offsets over a restart undo by event id.
Ids are checked against this outbox only, and for as long as it keeps its rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from feedback.cluster.client import Cluster
from feedback.cluster.reader import KafkaReader
from feedback.cluster.sender import KafkaSender
from feedback.cluster.topics import Topics
from feedback.codec import letters_among
from feedback.events import DeadLetter, Event, Topic
from feedback.forwarder import Forwarder
from feedback.log import PARTITIONS, Position, Record
from feedback.outbox import Outbox
from feedback.sqlite_log import SqliteLog


class KafkaLog:
    """`EventLog` in a cluster. Opens at once, Kafka there or not; raises `LogUnavailable` if the outbox cannot be opened.

    ``forwarder`` has the figures of the way to Kafka: ``lag``, ``oldest_s``, ``rebuilds``, ``forwarded``, ``failing``, ``alive``.
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
        """``replication_factor`` and ``retention_days`` as `Topics` takes them. ``api_version`` None: ask."""
        self._outbox = SqliteLog(outbox_path, partitions)
        self._cluster = Cluster(bootstrap_servers, topic_prefix, partitions, api_version)
        self._topics = Topics(self._cluster, replication_factor, retention_days or {})
        self._reader = KafkaReader(self._cluster, self.create_topics)
        self._to_send = Outbox(self._outbox)
        self.forwarder = Forwarder(self._to_send, self._connect, ack_timeout_s=ack_timeout_s)

    def submit(self, event: Event) -> Future[Position]:
        return self._outbox.submit(event)

    def append(self, events: Sequence[Event], timeout: float = 10.0) -> list[Position]:
        return self._outbox.append(events, timeout)

    def create_topics(self) -> None:
        """Make the topics that are missing, as the forwarder and the first read do. Raises `LogError` on a wrong count."""
        self._topics.ensure()

    def hold_topics(self) -> None:
        """Give the topics the settings that they would be made with, whoever made them. Raises `LogUnavailable`."""
        self._topics.hold()

    def resend(self, letter: DeadLetter) -> bool:
        """Send an event that Kafka refused (``letter`` stands for it) once more; False if it is not in this outbox."""
        return self._to_send.resend(letter)

    def holds(self, ids: Collection[str]) -> bool:
        return self._outbox.holds(ids)

    def check_writable(self, timeout: float = 10.0) -> None:
        self._outbox.check_writable(timeout)

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
