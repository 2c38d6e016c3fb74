"""Where event logs live in tests: a SQLite file, the mock cluster, a real Kafka, each behind the same few calls."""

from __future__ import annotations

import sqlite3
import uuid
from pathlib import Path

import pytest
from brokers import MOCK_API_VERSION, MockCluster, wait_until
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient

from feedback.events import TOPICS, Topic
from feedback.kafka_log import KafkaLog
from feedback.log import EventLog
from feedback.sqlite_log import SqliteLog


class Backend:
    """A place where a log lives: open it as often as you like, each with an outbox of its own in a cluster."""

    name = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened: list[EventLog] = []

    def open(self) -> EventLog:
        self.opened.append(SqliteLog(self.folder / "log.db"))
        return self.opened[-1]

    def settle(self) -> None:
        """Wait until readers see all that was acknowledged."""

    def child(self) -> list[str]:
        """Arguments with which `opened_by` opens this log in another process."""
        return ["sqlite", str(self.folder / "log.db")]

    def disk(self) -> Path:
        """The file that what is appended last goes to first."""
        return self.folder / "log.db"

    def put(self, topic: Topic, partition: int, body: bytes | None) -> None:
        """A record of somebody else's, of any bytes; None: a tombstone."""
        with sqlite3.connect(self.folder / "log.db") as connection:
            sql = "INSERT INTO heads VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET next = next + 1 RETURNING next - 1"
            ((offset,),) = connection.execute(sql, (topic, partition)).fetchall()
            sql = "INSERT INTO events (topic, partition, offset, id, time, headers, body) VALUES (?, ?, ?, ?, 0, '[]', ?)"
            connection.execute(sql, (topic, partition, offset, uuid.uuid4().hex, body or b""))
        connection.close()

    def trim(self, topic: Topic, partition: int, offset: int) -> None:
        """Forget the records below ``offset``, as retention does."""
        with sqlite3.connect(self.folder / "log.db") as connection:
            sql = "DELETE FROM events WHERE topic = ? AND partition = ? AND offset < ?"
            connection.execute(sql, (topic, partition, offset))
        connection.close()

    def close(self) -> None:
        for log in self.opened:
            log.close()


class KafkaBackend(Backend):
    def __init__(self, name: str, folder: Path, servers: str, api_version: tuple[int, ...] | None) -> None:
        super().__init__(folder)
        self.name = name
        self.servers = servers
        self.prefix = f"t{uuid.uuid4().hex[:8]}"
        self.api_version = api_version

    def open(self, outbox: str | None = None, kind: type[KafkaLog] = KafkaLog, **options: float) -> KafkaLog:
        path = self.folder / (outbox or f"outbox-{len(self.opened)}.db")
        log = kind(path, self.servers, self.prefix, api_version=self.api_version, **options)
        self.opened.append(log)
        return log

    def settle(self) -> None:
        for log in self.opened:
            assert isinstance(log, KafkaLog)
            wait_until(lambda log=log: log.forwarder.lag == 0, "events reach Kafka", 30)

    def child(self) -> list[str]:
        return [self.name, str(self.folder / "killed.db"), self.servers, self.prefix]

    def disk(self) -> Path:
        return self.folder / f"outbox-{len(self.opened) - 1}.db"

    def put(self, topic: Topic, partition: int, body: bytes | None) -> None:
        producer = Producer({"bootstrap.servers": self.servers})
        producer.produce(f"{self.prefix}.{topic}.v1", value=body, key=b"somebody's", partition=partition)
        assert producer.flush(10) == 0

    def trim(self, topic: Topic, partition: int, offset: int) -> None:
        if self.name == "mock":
            pytest.skip("the mock cluster cannot delete records")
        admin = AdminClient({"bootstrap.servers": self.servers})
        for done in admin.delete_records([Place(f"{self.prefix}.{topic}.v1", partition, offset)]).values():
            done.result(10)


def opened_by(arguments: list[str]) -> EventLog:
    """The log that `Backend.child` names."""
    kind, path, *cluster = arguments
    if kind == "sqlite":
        return SqliteLog(path)
    return KafkaLog(path, *cluster, api_version=MOCK_API_VERSION if kind == "mock" else None)


def on_mock(cluster: MockCluster, folder: Path) -> KafkaBackend:
    backend = KafkaBackend("mock", folder, cluster.bootstrap_servers, MOCK_API_VERSION)
    cluster.create_topics([f"{backend.prefix}.{topic}.v1" for topic in TOPICS], 12)
    return backend
