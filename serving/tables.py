"""The tables of keys and projects, in one SQLite file that any number of processes may use at once."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Engine, Float, Integer, MetaData, String, Table, create_engine, event
from sqlalchemy.schema import CreateIndex, CreateTable

_BUSY_S = 10.0

_metadata = MetaData()

projects = Table("projects", _metadata, Column("id", String, primary_key=True), Column("created", Float, nullable=False))

project_origins = Table(
    "project_origins",
    _metadata,
    Column("project", String, primary_key=True),
    Column("origin", String, primary_key=True),
)

keys = Table(
    "keys",
    _metadata,
    Column("id", String, primary_key=True),
    Column("digest", String, nullable=False, unique=True),
    Column("project", String, nullable=False, index=True),
    Column("role", String, nullable=False),
    Column("name", String, nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float),
    Column("revoked", Float),
)

key_projects = Table(
    "key_projects",
    _metadata,
    Column("key", String, primary_key=True),
    Column("project", String, primary_key=True, index=True),
)
"""Projects of a key beyond its first, which is in ``keys``: most keys have one."""

key_limits = Table(
    "key_limits",
    _metadata,
    Column("key", String, primary_key=True),
    Column("requests_per_min", Integer),
    Column("tokens_per_min", Integer),
    Column("concurrent", Integer),
)
"""Keys without limits have no row."""


def open_tables(path: Path | str) -> Engine:
    """The file's engine; the file and tables that are missing are made. It is for its owner's eyes only."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).touch(mode=0o600)
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": _BUSY_S})
    event.listen(engine, "connect", _configure)
    with engine.begin() as connection:
        for table in _metadata.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in sorted(table.indexes, key=lambda index: str(index.name)):
                connection.execute(CreateIndex(index, if_not_exists=True))
    return engine


def write_ahead(connection: sqlite3.Connection) -> None:
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


def _configure(connection: Any, record: object) -> None:
    write_ahead(connection)
    connection.execute("PRAGMA synchronous=FULL")
