"""A gateway's SQLite log as the outbox to a cluster: what is not there yet, and how far it has come."""

from __future__ import annotations

import sqlite3

from feedback.events import Event
from feedback.log import wait_all
from feedback.sqlite_log import COLUMNS, Row, SqliteLog, row_of

_CURSOR = "forwarded"


class Outbox:
    """The rows of a log in order of commit, and a durable cursor: the ``seq`` up to which all are in the cluster."""

    def __init__(self, log: SqliteLog) -> None:
        self.log = log

    def cursor(self) -> int:
        row = self.log.query(lambda c: c.execute("SELECT value FROM facts WHERE name = ?", (_CURSOR,)).fetchone())
        return 0 if row is None else int(row[0])

    def advance(self, seq: int, letters: list[Event]) -> None:
        """Move the cursor; what stands for refused rows (``letters``) is stored first."""
        self.log.append(letters)
        sql = "INSERT INTO facts VALUES (?, ?) ON CONFLICT DO UPDATE SET value = MAX(value, excluded.value)"
        wait_all([self.log.transact(lambda connection: connection.execute(sql, (_CURSOR, seq)).rowcount)])

    def after(self, seq: int, *, rows: int, size: int) -> list[Row]:
        """The next rows beyond ``seq``: at most so many, and of so many bytes together; at least one if there is one."""
        sql = f"SELECT {COLUMNS} FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
        window: list[Row] = []
        for row in self.log.query(lambda c: [row_of(columns) for columns in c.execute(sql, (seq, rows))]):
            size -= row.size
            if window and size < 0:
                break
            window.append(row)
        return window

    def lag(self) -> int:
        """How many rows are beyond the durable cursor."""
        sql = "SELECT COUNT(*) FROM events WHERE seq > ?"
        cursor = self.cursor()
        return self.log.query(lambda c: int(c.execute(sql, (cursor,)).fetchone()[0]))

    def forget(self, before: float) -> int:
        """Delete forwarded rows older than ``before`` (Unix seconds); their ids can be used again from then on."""
        cursor = self.cursor()
        return wait_all([self.log.transact(lambda connection: _delete(connection, cursor, before))])[0]


def _delete(connection: sqlite3.Connection, cursor: int, before: float) -> int:
    """Rows are about in order of time: only the oldest thousand are looked at, so that a writer never waits long."""
    sql = "SELECT seq, time FROM events WHERE seq <= ? ORDER BY seq LIMIT 1000"
    old = [(seq,) for seq, time in connection.execute(sql, (cursor,)).fetchall() if time < before]
    connection.executemany("DELETE FROM events WHERE seq = ?", old)
    return len(old)
