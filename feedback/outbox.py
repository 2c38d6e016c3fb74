"""A gateway's SQLite log as the outbox to a cluster: what is not there yet, and how far it has come."""

from __future__ import annotations

import sqlite3

from feedback.codec import shortened
from feedback.events import DeadLetter, Event
from feedback.log import wait_all
from feedback.sqlite_log import COLUMNS, Row, SqliteLog, row_of, store

_CURSOR = "forwarded"


class Outbox:
    """The rows of a log in order of commit, and a durable cursor: the ``seq`` up to which all are in the cluster."""

    def __init__(self, log: SqliteLog) -> None:
        self.log = log

    def cursor(self) -> int:
        row = self.log.query(lambda c: c.execute("SELECT value FROM facts WHERE name = ?", (_CURSOR,)).fetchone())
        return 0 if row is None else int(row[0])

    def advance(self, seq: int, letters: list[Event]) -> None:
        """Move the cursor; what stands for refused rows (``letters``) is stored first, and the rows are kept for `resend`."""
        self.log.append(letters)
        places = [(d.topic, d.partition, d.offset) for d in (letter.data for letter in letters) if isinstance(d, DeadLetter)]
        wait_all([self.log.transact(lambda connection: _advance(connection, seq, places))])

    def resend(self, letter: DeadLetter) -> bool:
        """Put the row that a letter stands for at the end, to be sent once more; False if it is not (or no more) here."""
        return wait_all([self.log.transact(lambda connection: _resend(connection, letter))])[0]

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

    def oldest(self) -> float | None:
        """The time of the first row beyond the durable cursor, in Unix seconds; None if there is none."""
        sql = "SELECT time FROM events WHERE seq > ? ORDER BY seq LIMIT 1"
        cursor = self.cursor()
        row = self.log.query(lambda c: c.execute(sql, (cursor,)).fetchone())
        return None if row is None else float(row[0])

    def forget(self, before: float) -> int:
        """Delete forwarded rows older than ``before`` (Unix seconds); their ids can be used again from then on.

        Those that the cluster refused are kept.
        """
        cursor = self.cursor()
        return wait_all([self.log.transact(lambda connection: _delete(connection, cursor, before))])[0]


def _advance(connection: sqlite3.Connection, seq: int, refused: list[tuple[str, int, int]]) -> None:
    sql = "INSERT OR IGNORE INTO refused SELECT seq FROM events WHERE topic = ? AND partition = ? AND offset = ?"
    connection.executemany(sql, refused)
    sql = "INSERT INTO facts VALUES (?, ?) ON CONFLICT DO UPDATE SET value = MAX(value, excluded.value)"
    connection.execute(sql, (_CURSOR, seq))


def _resend(connection: sqlite3.Connection, letter: DeadLetter) -> bool:
    """A position is one outbox's own: the body tells whether the row at it is the letter's.

    The row is deleted and inserted, so that SQLite itself gives it a ``seq`` that none had before.
    """
    sql = f"SELECT {COLUMNS} FROM events NATURAL JOIN refused WHERE topic = ? AND partition = ? AND offset = ?"
    found = connection.execute(sql, (letter.topic, letter.partition, letter.offset)).fetchone()
    if found is None or shortened(row_of(found).body) != letter.body:
        return False
    seq = row_of(found).seq
    sql = "SELECT id, time, headers, body FROM events WHERE seq = ?"
    row = connection.execute(sql, (seq,)).fetchone()
    connection.execute("DELETE FROM refused WHERE seq = ?", (seq,))
    connection.execute("DELETE FROM events WHERE seq = ?", (seq,))
    store(connection, letter.topic, letter.partition, *row)
    return True


def _delete(connection: sqlite3.Connection, cursor: int, before: float) -> int:
    """Rows are about in order of time: only the oldest thousand are looked at, so that a writer never waits long."""
    sql = "SELECT seq, time FROM events WHERE seq <= ? AND seq NOT IN (SELECT seq FROM refused) ORDER BY seq LIMIT 1000"
    old = [(seq,) for seq, time in connection.execute(sql, (cursor,)).fetchall() if time < before]
    connection.executemany("DELETE FROM events WHERE seq = ?", old)
    return len(old)
