"""A process that reads feedback from Kafka and keeps, in one transaction, what it read and how far it came; to be killed.

Run it with ``python -m ops.chaos.reader STATE`` and a `ops.chaos.writer.Task` as JSON, whose topics it reads.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from threading import Event

from feedback.kafka_log import KafkaLog
from feedback.log import LogError, LogUnavailable, Record, TopicReader
from ops.chaos.ledger import name_of
from ops.chaos.writer import Task, task_of
from ops.logs import configure_logs

GROUP = "chaos-readers"
_POLL_S = 0.02
_COMMIT_S = 0.5

_SCHEMA = """
CREATE TABLE IF NOT EXISTS effects (place INTEGER PRIMARY KEY, id TEXT UNIQUE, target TEXT, number INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS offsets (partition INTEGER PRIMARY KEY, next INTEGER) STRICT;
"""


def main(state: Path, task: Task) -> None:
    never = Event()
    with closing(sqlite3.connect(state)) as connection:
        connection.executescript(_SCHEMA)
        offsets = dict(connection.execute("SELECT partition, next FROM offsets"))
        log = KafkaLog(state.with_suffix(".outbox"), task.servers, task.prefix, api_version=task.api_version)
        reader = TopicReader(log, "feedback", offsets)
        commit_at = 0.0
        while True:
            try:
                records = reader.poll(200)
            except LogUnavailable:
                never.wait(_POLL_S)
                continue
            if not records:
                never.wait(_POLL_S)
                continue
            _keep(connection, records, reader.offsets)
            if time.monotonic() > commit_at:
                commit_at = time.monotonic() + _COMMIT_S
                with suppress(LogError):  # for display only; while a group has members it is refused
                    log.commit(GROUP, "feedback", 0, reader.offsets[0])


def _keep(connection: sqlite3.Connection, records: list[Record], offsets: dict[int, int]) -> None:
    with connection:
        for record in records:
            name = name_of(record.event)
            if name is not None:
                sql = "INSERT OR IGNORE INTO effects (id, target, number) VALUES (?, ?, ?)"
                connection.execute(sql, (record.event.id, *name))
        connection.executemany("INSERT OR REPLACE INTO offsets VALUES (?, ?)", list(offsets.items()))


def effects(state: Path) -> list[tuple[str, int]]:
    """Target and number of what a reader has read, in its order."""
    if not state.exists():
        return []
    with closing(sqlite3.connect(state)) as connection:
        try:
            return connection.execute("SELECT target, number FROM effects ORDER BY place").fetchall()
        except sqlite3.OperationalError:  # it has not made its tables yet
            return []


if __name__ == "__main__":
    configure_logs("reader")
    main(Path(sys.argv[1]), task_of(json.loads(sys.argv[2])))
