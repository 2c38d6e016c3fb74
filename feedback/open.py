"""Opens the event log that the settings name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from feedback.events import Topic
from feedback.log import EventLog


def open_log(
    backend: Literal["sqlite", "kafka"],
    path: Path | str,
    *,
    kafka_bootstrap_servers: str = "",
    kafka_topic_prefix: str = "plaudit",
    kafka_retention_days: Mapping[Topic, float] | None = None,
) -> EventLog:
    """The log in the SQLite file ``path``; with Kafka that file is the outbox, and reads come from Kafka.

    Of the topics, those that ``kafka_retention_days`` does not name keep their events for ever.
    Kafka need not be there yet. Raises `LogUnavailable` if the file cannot be opened.
    """
    if backend == "kafka":
        from feedback.kafka_log import KafkaLog  # only who uses Kafka loads its client

        return KafkaLog(path, kafka_bootstrap_servers, kafka_topic_prefix, retention_days=kafka_retention_days or {})

    from feedback.sqlite_log import SqliteLog

    return SqliteLog(path)
