"""Kafkas for tests: librdkafka's in-memory mock cluster, which can be broken on command, and a real one.

A real one is `PLAUDIT_TEST_KAFKA=host:port` (somebody's own), else started from the distribution in
`PLAUDIT_KAFKA_HOME` (a folder with ``libs/*.jar``, Java 17), else there is none and its tests are skipped.
`COVERED` names what the tests have run against.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops.chaos.mock_kafka import MOCK_API_VERSION, MockCluster
from ops.chaos.real_kafka import RealKafka

__all__ = ["COVERED", "MOCK_API_VERSION", "MockCluster", "RealKafka", "mock_kafka", "real_kafka", "wait_until"]

COVERED: list[str] = []


def wait_until(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Returns when ``condition()`` is true; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)


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
