"""The embedded event log: one SQLite file (WAL, ``synchronous=FULL``, group commit), shared by any number of processes.

The same file is the outbox of a gateway in a cluster (see `feedback.kafka_log`).
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from feedback.codec import DecodeError, Headers, decode, decode_record, encode, letters_among, same_fact
from feedback.database import MOST_WAITING, Work, Writer, connect, create_tables
from feedback.events import Event, Topic
from feedback.log import (
    PARTITIONS,
    EventConflict,
    LogError,
    LogUnavailable,
    OffsetOutOfRange,
    Position,
    Record,
    refused,
    wait_all,
)
from feedback.partition import partition_of

T = TypeVar("T")

_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # `json.dumps` makes one each time

COLUMNS = "seq, topic, partition, offset, headers, body"
"""Of the table ``events``: what `row_of` takes."""


class Row(NamedTuple):
    """A stored event as it was written."""

    seq: int
    topic: Topic
    partition: int
    offset: int
    headers: Headers
    body: bytes

    @property
    def position(self) -> Position:
        return Position(self.topic, self.partition, self.offset)

    @property
    def size(self) -> int:
        """Bytes of body and headers."""
        return len(self.body) + sum(len(name) + len(value) for name, value in self.headers)


class SqliteLog:
    """`EventLog` in a file. Raises `LogUnavailable` if it cannot be opened; ``most_waiting`` writes wait for the disk."""

    def __init__(self, path: Path | str, partitions: int = PARTITIONS, *, most_waiting: int = MOST_WAITING) -> None:
        self.path = Path(path)
        self._partitions = partitions
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            writing = connect(self.path)
            create_tables(writing, partitions)
            self._reading = connect(self.path)
            self._reading.execute("PRAGMA query_only=ON")
        except (sqlite3.Error, OSError) as error:
            raise LogUnavailable(f"the log {self.path} cannot be opened: {error}") from error
        self._read_lock = threading.Lock()
        self._writer = Writer(writing, most_waiting)

    @property
    def transactions(self) -> int:
        """Transactions committed by this object: how well it groups."""
        return self._writer.transactions

    @property
    def committed_here(self) -> threading.Condition:
        """Notified after every transaction of this object (not of other processes)."""
        return self._writer.committed

    def submit(self, event: Event) -> Future[Position]:
        try:
            body, headers = encode(event)
        except LogError as error:
            return refused(error)
        partition = partition_of(event.key, self._partitions)
        return self.transact(lambda connection: _insert(connection, event, partition, headers, body))

    def append(self, events: Sequence[Event], timeout: float = 10.0) -> list[Position]:
        """As `submit` of each, but as one job: one hand-over to the writer and back for all of them."""
        encoded = [_encoded(event, self._partitions) for event in events]
        (outcomes,) = wait_all([self.transact(lambda connection: [_outcome(connection, one) for one in encoded])], timeout)
        positions = [outcome for outcome in outcomes if not isinstance(outcome, LogError)]
        for outcome in outcomes:
            if isinstance(outcome, LogError):
                raise outcome
        return positions

    def transact(self, work: Work[T]) -> Future[T]:
        """Run ``work`` in the writer's next transaction (see `feedback.database.Writer.submit`)."""
        return self._writer.submit(work)

    def query(self, work: Work[T]) -> T:
        """Run ``work`` in one snapshot of the log. Raises `LogUnavailable`."""
        with self._read_lock:
            try:
                self._reading.execute("BEGIN")
                try:
                    return work(self._reading)
                finally:
                    self._reading.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise LogUnavailable(f"the log could not be read: {error}") from error

    def holds(self, ids: Collection[str]) -> bool:
        sql = f"SELECT COUNT(*) FROM events WHERE id IN ({','.join('?' * len(ids))})"
        return self.query(lambda connection: int(connection.execute(sql, tuple(ids)).fetchone()[0]) == len(set(ids)))

    def check_writable(self, timeout: float = 10.0) -> None:
        sql = "INSERT OR REPLACE INTO facts VALUES ('checked', ?)"
        wait_all([self.transact(lambda connection: connection.execute(sql, (int(time.time()),)).rowcount)], timeout)

    def partitions(self, topic: Topic) -> int:
        return self._partitions

    def read(self, topic: Topic, partition: int, offset: int, limit: int = 1000) -> list[Record]:
        rows = self.query(lambda connection: _rows_from(connection, topic, partition, offset, limit))
        now = time.time()
        records = [decode_record(row.position, row.body, row.headers, now) for row in rows]
        for letter in letters_among(records):
            self.submit(letter)  # once, by its id; a failure is made good by the next reader
        return records

    def earliest(self, topic: Topic, partition: int) -> int:
        return self.query(lambda connection: _bounds(connection, topic, partition)[0])

    def end(self, topic: Topic, partition: int) -> int:
        return self.query(lambda connection: _bounds(connection, topic, partition)[1])

    def commit(self, group: str, topic: Topic, partition: int, offset: int) -> None:
        row = (group, topic, partition, offset)
        wait_all([self.transact(lambda c: c.execute("INSERT OR REPLACE INTO groups VALUES (?, ?, ?, ?)", row).rowcount)])

    def committed(self, group: str, topic: Topic, partition: int) -> int | None:
        sql = "SELECT offset FROM groups WHERE name = ? AND topic = ? AND partition = ?"
        row = self.query(lambda connection: connection.execute(sql, (group, topic, partition)).fetchone())
        return None if row is None else int(row[0])

    def close(self) -> None:
        self._writer.close()
        with self._read_lock:
            self._reading.close()


def row_of(columns: tuple[Any, ...]) -> Row:
    """A `Row` from `COLUMNS`."""
    seq, topic, partition, offset, headers, body = columns
    return Row(seq, topic, partition, offset, [(name, value.encode()) for name, value in json.loads(headers)], body)


class _Encoded(NamedTuple):
    event: Event
    partition: int
    headers: Headers
    body: bytes


def _encoded(event: Event, partitions: int) -> _Encoded | LogError:
    try:
        body, headers = encode(event)
    except LogError as error:
        return error
    return _Encoded(event, partition_of(event.key, partitions), headers, body)


def _outcome(connection: sqlite3.Connection, one: _Encoded | LogError) -> Position | LogError:
    """What became of one event of several; what is wrong with it concerns it alone."""
    if isinstance(one, LogError):
        return one
    try:
        return _insert(connection, *one)
    except LogError as error:
        return error


def _insert(connection: sqlite3.Connection, event: Event, partition: int, headers: Headers, body: bytes) -> Position:
    sql = f"SELECT {COLUMNS} FROM events WHERE id = ?"
    known = connection.execute(sql, (event.id,)).fetchone()
    if known is not None:
        return _same_or_conflict(row_of(known), event)
    text = _to_json([(name, value.decode()) for name, value in headers])
    return Position(event.topic, partition, store(connection, event.topic, partition, event.id, event.time, text, body))


def store(connection: sqlite3.Connection, topic: str, partition: int, id: str, time: float, headers: str, body: bytes) -> int:
    """Insert a row at the end of its partition; its offset."""
    sql = """INSERT INTO heads VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET next = next + 1 RETURNING next - 1"""
    ((offset,),) = connection.execute(sql, (topic, partition)).fetchall()
    sql = "INSERT INTO events (topic, partition, offset, id, time, headers, body) VALUES (?, ?, ?, ?, ?, ?, ?)"
    connection.execute(sql, (topic, partition, offset, id, time, headers, body))
    return int(offset)


def _same_or_conflict(row: Row, event: Event) -> Position:
    try:
        same = same_fact(decode(row.body, row.headers), event)
    except DecodeError:
        same = False
    if not same:
        raise EventConflict(f"id {event.id} was used for another event already: send a new id, or the same body again")
    return row.position


def _bounds(connection: sqlite3.Connection, topic: Topic, partition: int) -> tuple[int, int]:
    """Offset of the first record kept, and of the next one to come."""
    sql = "SELECT next FROM heads WHERE topic = ? AND partition = ?"
    head = connection.execute(sql, (topic, partition)).fetchone()
    end = int(head[0]) if head else 0
    sql = "SELECT MIN(offset) FROM events WHERE topic = ? AND partition = ?"
    (first,) = connection.execute(sql, (topic, partition)).fetchone()
    return (end if first is None else int(first)), end


def _rows_from(connection: sqlite3.Connection, topic: Topic, partition: int, offset: int, limit: int) -> list[Row]:
    earliest, end = _bounds(connection, topic, partition)
    if not earliest <= offset <= end:
        raise OffsetOutOfRange(f"{topic}/{partition}: offset {offset} is not in {earliest}..{end}")
    if offset == end:
        return []
    sql = f"""SELECT {COLUMNS} FROM events
             WHERE topic = ? AND partition = ? AND offset >= ? ORDER BY offset LIMIT ?"""
    return [row_of(columns) for columns in connection.execute(sql, (topic, partition, offset, limit))]
