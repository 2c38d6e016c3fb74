"""SQL tables of the operators' side: one SQLite file that any number of processes may use at once."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Insert, Table, create_engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

_BUSY_S = 10.0


def open_engine(path: Path | str) -> Engine:
    """The engine of a SQLite file, which is made, for its owner's eyes only, when it is first used.

    Its commits are on disk when they return, and what is deleted is overwritten (`checkpoint` for the journal's copies).
    """
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": _BUSY_S})

    @event.listens_for(engine, "do_connect")
    def make(*_: object) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch(mode=0o600)

    event.listen(engine, "connect", _configure)
    return engine


def make_tables(engine: Engine, tables: Iterable[Table]) -> None:
    """Make those that are missing."""
    with engine.begin() as connection:
        for table in tables:
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in sorted(table.indexes, key=lambda index: str(index.name)):
                connection.execute(CreateIndex(index, if_not_exists=True))


def insert_missing(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert the rows whose primary key is not there yet."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement: Insert = dialect.insert(table).on_conflict_do_nothing()
    connection.execute(statement, rows)


def checkpoint(engine: Engine) -> bool:
    """Take the journal's copies of what was deleted off a SQLite file; False while somebody still reads older ones."""
    if engine.dialect.name != "sqlite":
        return True
    deadline = time.monotonic() + _BUSY_S
    with engine.connect() as connection:
        while True:
            busy, _, _ = connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)")).one()
            if not busy or time.monotonic() > deadline:
                return not busy
            time.sleep(0.05)


def _configure(connection: Any, record: object) -> None:
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA secure_delete=ON")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Turn a file to WAL. SQLite does not wait for its lock when several processes do that at once: try again instead."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
