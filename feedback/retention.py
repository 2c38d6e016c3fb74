"""How long events are kept: the oldest of a topic are deleted from an embedded log. A cluster's brokers do it themselves."""

from __future__ import annotations

import sqlite3
from functools import partial

from feedback.events import Topic
from feedback.log import wait_all
from feedback.sqlite_log import SqliteLog

_AT_ONCE = 1000
"""Records in one transaction, so that nobody waits long for the writer."""


def forget(log: SqliteLog, topic: Topic, before: float, at_once: int = _AT_ONCE) -> int:
    """Delete a topic's records older than ``before`` (Unix seconds); how many they were. Raises `LogUnavailable`.

    Offsets go on as they were, and a partition loses its beginning only: an old record behind a newer one, as a clock that is
    ahead may have written it, waits for that one. Ids that are gone can be used again.
    """
    return sum(_forget(log, topic, partition, before, at_once) for partition in range(log.partitions(topic)))


def _forget(log: SqliteLog, topic: Topic, partition: int, before: float, at_once: int) -> int:
    forgotten = 0
    while True:
        (deleted,) = wait_all([log.transact(partial(_delete, topic=topic, partition=partition, before=before, at_once=at_once))])
        forgotten += deleted
        if deleted < at_once:
            return forgotten


def _delete(connection: sqlite3.Connection, topic: Topic, partition: int, before: float, at_once: int) -> int:
    sql = "SELECT seq, time FROM events WHERE topic = ? AND partition = ? ORDER BY offset LIMIT ?"
    old = []
    for seq, time in connection.execute(sql, (topic, partition, at_once)):
        if time >= before:
            break
        old.append((seq,))
    connection.executemany("DELETE FROM events WHERE seq = ?", old)
    return len(old)
