"""A Kafka of the scenarios' own, mock or real, and the logs that forward to it."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from feedback.events import TOPICS
from feedback.kafka_log import KafkaLog
from feedback.log import PARTITIONS
from ops.chaos.ledger import Ledger
from ops.chaos.mock_kafka import MOCK_API_VERSION, MockCluster
from ops.chaos.proxy import Proxy
from ops.chaos.real_kafka import RealKafka
from ops.chaos.scenario import NotRun, Outcome, Size, wait_until
from ops.chaos.writer import Task

_DRAIN_S = 120.0


@dataclass(frozen=True)
class Topics:
    """Fresh topics in a cluster, and folders for outboxes. ``servers`` is where clients begin."""

    folder: Path
    servers: str
    api_version: tuple[int, ...] | None
    prefix: str = field(default_factory=lambda: f"chaos{uuid.uuid4().hex[:8]}")

    @property
    def outbox(self) -> Path:
        return self.folder / f"{self.prefix}.db"

    def name(self) -> str:
        """Of the topic that feedback is in."""
        return f"{self.prefix}.feedback.v1"

    @contextmanager
    def log(self, outbox: Path | None = None, ack_timeout_s: float = 2.0) -> Iterator[KafkaLog]:
        """On the scenario's outbox, or another one."""
        path = outbox or self.outbox
        log = KafkaLog(path, self.servers, self.prefix, api_version=self.api_version, ack_timeout_s=ack_timeout_s)
        try:
            yield log
        finally:
            log.close()

    def task(self, first: int, last: int, **more: float) -> Task:
        return Task(str(self.outbox), self.servers, self.prefix, self.api_version, "key", first, last, **more)  # type: ignore[arg-type]

    def check(self, log: KafkaLog, ledger: Ledger, faults: int, recovery_s: float, *problems: str, note: str = "") -> Outcome:
        """What readers of the cluster find, once all is there."""
        wait_until(lambda: log.forwarder.lag == 0, "all events are in Kafka", _DRAIN_S)
        found = ledger.check_log(log)
        stored = sum(log.end("feedback", partition) for partition in range(log.partitions("feedback")))
        copies = f"{stored} stored, copies included" if stored != found.acknowledged else ""
        told = "; ".join(filter(None, [note, copies]))
        return Outcome(faults, *found, recovery_s=recovery_s, problems=problems, note=told)


class Mock:
    """The mock cluster, and a set of topics for each scenario."""

    def __init__(self, cluster: MockCluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder

    def topics(self) -> Topics:
        made = Topics(self.folder, self.cluster.bootstrap_servers, MOCK_API_VERSION)
        self.cluster.create_topics([f"{made.prefix}.{topic}.v1" for topic in TOPICS], PARTITIONS)
        return made


@contextmanager
def mock(folder: Path, size: Size) -> Iterator[Mock]:
    cluster = MockCluster()
    try:
        yield Mock(cluster, folder)
    finally:
        cluster.close()


class Real:
    """A real broker behind a proxy of ours, through which all clients reach it."""

    def __init__(self, kafka: RealKafka, proxy: Proxy, folder: Path) -> None:
        self.kafka, self.proxy, self.folder = kafka, proxy, folder

    def topics(self) -> Topics:
        return Topics(self.folder, self.kafka.bootstrap_servers, None)


@contextmanager
def real(folder: Path, size: Size) -> Iterator[Real]:
    home = os.environ.get("PLAUDIT_KAFKA_HOME")
    if not home:
        raise NotRun("set PLAUDIT_KAFKA_HOME to the folder of an Apache Kafka (with libs/*.jar)")
    if not shutil.which("java"):
        raise NotRun("PLAUDIT_KAFKA_HOME is set, but there is no java")
    with Proxy() as proxy:
        kafka = RealKafka(Path(home).absolute(), folder, proxy_port=proxy.port)
        try:
            proxy.upstream = kafka.port
            yield Real(kafka, proxy, folder)
        finally:
            kafka.stop()
