"""The SQLite file of a log: its tables, connections, and the one thread that writes to it.

The writer takes everything that waits into one transaction (group commit), and tells nobody before that is on disk.
Several processes may write to one file: each transaction takes the write lock before it reads.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from feedback.log import LogError, LogUnavailable

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

_BUSY_S = 5.0
"""How long a transaction waits for another process's."""

_GROUP = 500
"""The most jobs in one transaction."""

MOST_WAITING = 20_000
"""The most jobs that wait for the writer; more are refused."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of commit over all partitions
  topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
  id TEXT NOT NULL UNIQUE, time REAL NOT NULL, headers TEXT NOT NULL, body BLOB NOT NULL,
  UNIQUE (topic, partition, offset)) STRICT;
CREATE TABLE IF NOT EXISTS heads (
  topic TEXT NOT NULL, partition INTEGER NOT NULL, next INTEGER NOT NULL, PRIMARY KEY (topic, partition)) STRICT;
CREATE TABLE IF NOT EXISTS groups (
  name TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
  PRIMARY KEY (name, topic, partition)) STRICT;
CREATE TABLE IF NOT EXISTS refused (  -- events that a cluster did not take: kept until it does
  seq INTEGER PRIMARY KEY) STRICT;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
"""


def connect(path: Path) -> sqlite3.Connection:
    """A connection whose commits are on disk when they return. Transactions are begun by hand; any thread may use it."""
    path.touch(mode=0o600)  # what people say is nobody else's business; SQLite's own files beside it follow
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    _patiently(lambda: connection.execute("PRAGMA journal_mode=WAL"))
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def create_tables(connection: sqlite3.Connection, partitions: int) -> None:
    """Tables for ``partitions`` a topic. Raises `LogError` if the file was made for another number: it never changes."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA.split(";\n"):
        connection.execute(statement)
    connection.execute("INSERT OR IGNORE INTO facts VALUES ('partitions', ?)", (partitions,))
    (found,) = connection.execute("SELECT value FROM facts WHERE name = 'partitions'").fetchone()
    connection.execute("COMMIT")
    if found != partitions:
        raise LogError(f"partitions={partitions}: the log was made with {found}; open it with {found}")


def _patiently(action: Callable[[], object]) -> None:
    """SQLite does not wait for its lock when several processes turn a new file to WAL at once: try again instead."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            action()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


class _Job(NamedTuple):
    work: Work[Any]
    future: Future[Any]


class Writer:
    """One thread, one connection, group commit. ``transactions`` counts what was committed."""

    def __init__(self, connection: sqlite3.Connection, most_waiting: int = MOST_WAITING) -> None:
        self.transactions = 0
        self._most_waiting = most_waiting
        self.committed = threading.Condition()
        self._connection = connection
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()  # in C: a third of what a bounded one costs
        self._open = True
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work[T]) -> Future[T]:
        """Run ``work`` in a transaction; the future holds what it returned once that is on disk.

        What it raises of `LogError` (before it writes anything) concerns that job alone; a database error concerns the
        whole transaction, whose jobs all get `LogUnavailable`.
        """
        future: Future[T] = Future()
        with self._lock:
            if not self._open:
                future.set_exception(LogUnavailable("the log is closed"))
                return future
            if self._jobs.qsize() < self._most_waiting:
                self._jobs.put(_Job(work, future))
            else:
                future.set_exception(LogUnavailable(f"{self._most_waiting} writes are waiting for the disk: try again later"))
        return future

    def close(self) -> None:
        """Write what waits, then stop."""
        with self._lock:
            was_open, self._open = self._open, False
        if was_open:
            self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        batch: list[_Job] = []
        try:
            while batch := self._next_batch():
                self._write(batch)
        finally:  # also when a job's own bug ends this thread: nobody waits for ever
            with self._lock:
                self._open = False
            self._connection.close()
            for job in batch + self._rest():
                if not job.future.done():
                    job.future.set_exception(LogUnavailable("the log's writer has stopped"))

    def _next_batch(self) -> list[_Job]:
        """Waits for a job and takes all that have come since; empty when the writer is to stop."""
        batch: list[_Job] = []
        while len(batch) < _GROUP:
            try:
                job = self._jobs.get(block=not batch)
            except queue.Empty:
                break
            if job is None:
                if batch:
                    self._jobs.put(None)
                break
            if job.future.set_running_or_notify_cancel():
                batch.append(job)
        return batch

    def _rest(self) -> list[_Job]:
        rest = []
        while not self._jobs.empty():
            job = self._jobs.get_nowait()
            if job is not None and job.future.set_running_or_notify_cancel():
                rest.append(job)
        return rest

    def _write(self, batch: list[_Job]) -> None:
        outcomes: list[tuple[_Job, Any, LogError | None]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for job in batch:
                try:
                    outcomes.append((job, job.work(self._connection), None))
                except LogError as error:
                    outcomes.append((job, None, error))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            for job in batch:
                job.future.set_exception(LogUnavailable(f"the log could not be written: {error}"))
            return
        self.transactions += 1
        with self.committed:
            self.committed.notify_all()
        for job, result, refusal in outcomes:
            if refusal is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(refusal)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:  # SQLite has already rolled back after some errors
            with suppress(sqlite3.Error):  # then the next BEGIN fails too, and nothing is acknowledged
                self._connection.execute("ROLLBACK")
