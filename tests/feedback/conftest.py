"""One log of each backend, for the tests that all of them must pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from brokers import MockCluster, mock_kafka, real_kafka
from log_backends import Backend, KafkaBackend, on_mock

from feedback.sqlite_log import SqliteLog

__all__ = ["mock_kafka", "real_kafka"]


@pytest.fixture(params=["sqlite", "mock", "real"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    if request.param == "sqlite":
        made = Backend(tmp_path)
    elif request.param == "mock":
        made = on_mock(request.getfixturevalue("mock_kafka"), tmp_path)
    else:
        made = KafkaBackend("real", tmp_path, request.getfixturevalue("real_kafka").bootstrap_servers, None)
    yield made
    made.close()


@pytest.fixture
def on_mock_kafka(mock_kafka: MockCluster, tmp_path: Path) -> Iterator[KafkaBackend]:
    made = on_mock(mock_kafka, tmp_path)
    yield made
    mock_kafka.up()
    made.close()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., SqliteLog]]:
    """Opens SQLite logs on one file, and closes them after the test."""
    logs: list[SqliteLog] = []

    def open_one(partitions: int = 12, path: str = "log.db", **options: int) -> SqliteLog:
        logs.append(SqliteLog(tmp_path / path, partitions, **options))
        return logs[-1]

    yield open_one
    for log in logs:
        log.close()
