"""Kafkas for tests: librdkafka's in-memory mock cluster, which can be broken on command, and a real one.

A real one is `PLAUDIT_TEST_KAFKA=host:port` (somebody's own), else started from the distribution in
`PLAUDIT_KAFKA_HOME` (a folder with ``libs/*.jar``, Java 17), else there is none and its tests are skipped.
`COVERED` names what the tests have run against.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ctypes import POINTER, c_char_p, c_int, c_int16, c_int32, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

COVERED: list[str] = []
MOCK_API_VERSION = (2, 3)
"""kafka-python cannot find out the mock cluster's version by itself."""

_PRODUCER = 0
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "rd_kafka_conf_new": (c_void_p, []),
    "rd_kafka_new": (c_void_p, [c_int, c_void_p, c_char_p, c_size_t]),
    "rd_kafka_destroy": (None, [c_void_p]),
    "rd_kafka_mock_cluster_new": (c_void_p, [c_void_p, c_int]),
    "rd_kafka_mock_cluster_destroy": (None, [c_void_p]),
    "rd_kafka_mock_cluster_bootstraps": (c_char_p, [c_void_p]),
    "rd_kafka_mock_topic_create": (c_int, [c_void_p, c_char_p, c_int, c_int]),
    "rd_kafka_mock_broker_set_down": (c_int, [c_void_p, c_int32]),
    "rd_kafka_mock_broker_set_up": (c_int, [c_void_p, c_int32]),
    "rd_kafka_mock_broker_set_rtt": (c_int, [c_void_p, c_int32, c_int]),
    "rd_kafka_mock_partition_set_leader": (c_int, [c_void_p, c_char_p, c_int32, c_int32]),
    "rd_kafka_mock_push_request_errors_array": (None, [c_void_p, c_int16, c_size_t, POINTER(c_int)]),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [c_void_p, c_int32]),
}


def wait_until(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Returns when ``condition()`` is true; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)


class MockCluster:
    """librdkafka's rdkafka_mock.h, through the library in confluent-kafka's wheel."""

    def __init__(self, brokers: int = 3) -> None:
        bundled = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
        self._lib = ctypes.CDLL(str(next(bundled.glob("librdkafka-*.so*"))))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self._lib, name)
            function.restype, function.argtypes = result, arguments
        error = ctypes.create_string_buffer(512)
        self._handle = self._lib.rd_kafka_new(_PRODUCER, self._lib.rd_kafka_conf_new(), error, len(error))
        if not self._handle:
            raise RuntimeError(error.value.decode())
        self._cluster = self._lib.rd_kafka_mock_cluster_new(self._handle, brokers)
        self._lib.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self.brokers = range(1, brokers + 1)
        self.bootstrap_servers: str = self._lib.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def close(self) -> None:
        self._lib.rd_kafka_mock_cluster_destroy(self._cluster)
        self._lib.rd_kafka_destroy(self._handle)

    def create_topics(self, names: list[str], partitions: int) -> None:
        with self._awake():
            for name in names:
                self._check(self._lib.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1))

    @contextmanager
    def _awake(self) -> Iterator[None]:
        """The cluster's thread looks for calls like ours once a second, and whenever somebody connects."""
        host, port = self.bootstrap_servers.split(",")[0].split(":")
        done = threading.Event()

        def connect() -> None:
            while not done.wait(0.01):
                with suppress(OSError):
                    socket.create_connection((host, int(port)), 1).close()

        thread = threading.Thread(target=connect)
        thread.start()
        yield
        done.set()
        thread.join()

    def down(self) -> None:
        for broker in self.brokers:
            self._check(self._lib.rd_kafka_mock_broker_set_down(self._cluster, broker))

    def up(self) -> None:
        for broker in self.brokers:
            self._check(self._lib.rd_kafka_mock_broker_set_up(self._cluster, broker))

    def set_latency(self, milliseconds: int) -> None:
        for broker in self.brokers:
            self._check(self._lib.rd_kafka_mock_broker_set_rtt(self._cluster, broker, milliseconds))

    def move_leader(self, topic: str, partition: int, broker: int) -> None:
        with self._awake():
            self._check(self._lib.rd_kafka_mock_partition_set_leader(self._cluster, topic.encode(), partition, broker))

    def inject_errors(self, api_key: int, *codes: int) -> None:
        """Answer the next requests of one API (0 = Produce, 1 = Fetch, …) with these Kafka error codes, in turn."""
        array = (c_int * len(codes))(*codes)
        self._lib.rd_kafka_mock_push_request_errors_array(self._cluster, api_key, len(codes), array)

    @staticmethod
    def _check(error: int) -> None:
        if error:
            raise RuntimeError(f"librdkafka's mock cluster answered error {error}")


class RealKafka:
    """One KRaft node from a distribution's jars, its data in ``folder``; or one that runs elsewhere (``folder`` None)."""

    def __init__(self, home: Path | None, folder: Path | None, address: str = "") -> None:
        self._home, self._folder = home, folder
        self._process: subprocess.Popen[bytes] | None = None
        self.bootstrap_servers = address
        if folder is not None:
            port, controller = _free_port(), _free_port()
            self.bootstrap_servers = f"127.0.0.1:{port}"
            (folder / "server.properties").write_text(_PROPERTIES.format(port=port, controller=controller, data=folder / "data"))
            identity = self._java("kafka.tools.StorageTool", "random-uuid").strip()
            self._java("kafka.tools.StorageTool", "format", "-t", identity, "-c", str(folder / "server.properties"))
            self.start()

    @property
    def ours(self) -> bool:
        return self._folder is not None

    def start(self) -> None:
        assert self._folder is not None
        with (self._folder / "kafka.log").open("ab") as log:
            command = [*self._command(), "kafka.Kafka", str(self._folder / "server.properties")]
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)
        wait_until(self._answers, f"Kafka, see {self._folder / 'kafka.log'}", 60)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"Kafka ended: {(self._folder or Path()) / 'kafka.log'}"
        host, port = self.bootstrap_servers.split(":")
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:
            return False
        return True

    def _command(self) -> list[str]:
        flags = ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        return ["java", *flags, "-cp", f"{self._home}/libs/*"]

    def _java(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._command(), *arguments], capture_output=True, text=True, timeout=60, cwd=self._folder, check=True
        )
        return done.stdout


_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="session")
def mock_kafka() -> Iterator[MockCluster]:
    """Three brokers in this process, all up at first; who takes them down brings them up again."""
    COVERED.append("Kafka protocol: librdkafka's mock cluster")
    cluster = MockCluster()
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def real_kafka(tmp_path_factory: pytest.TempPathFactory, require: Callable[[str, str], None]) -> Iterator[RealKafka]:
    address, home = os.environ.get("PLAUDIT_TEST_KAFKA"), os.environ.get("PLAUDIT_KAFKA_HOME")
    if address:
        COVERED.append(f"Kafka at {address}")
        yield RealKafka(None, None, address)
        return
    if not home:
        require("kafka", "set PLAUDIT_TEST_KAFKA=host:port, or PLAUDIT_KAFKA_HOME to a folder with libs/*.jar")
    assert home
    jars = sorted(Path(home).glob("libs/kafka_*.jar"))
    assert jars, f"PLAUDIT_KAFKA_HOME={home}: no libs/kafka_*.jar in it"
    if not shutil.which("java"):
        require("kafka", "PLAUDIT_KAFKA_HOME is set, but there is no java")
    kafka = RealKafka(Path(home).absolute(), tmp_path_factory.mktemp("kafka"))
    COVERED.append(f"Apache Kafka, {jars[0].stem}")
    yield kafka
    kafka.stop()
