"""What SQLite and PostgreSQL are told in different words."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, Engine, Insert, Table, text
from sqlalchemy.dialects import postgresql, sqlite

BUSY_S = 10.0


def insert_missing(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert the rows whose primary key is not there yet."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement: Insert = dialect.insert(table).on_conflict_do_nothing()
    connection.execute(statement, rows)


def checkpoint(engine: Engine, busy_s: float = BUSY_S) -> bool:
    """Take copies of what was overwritten out of an SQLite file's journal; False if they are still read after ``busy_s``.

    PostgreSQL keeps old rows until its next VACUUM, and its journal for as long as it is set to.
    """
    if engine.dialect.name != "sqlite":
        return True
    deadline = time.monotonic() + busy_s
    with engine.connect() as connection:
        while True:
            busy, _, _ = connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)")).one()
            if not busy or time.monotonic() > deadline:
                return not busy
            time.sleep(0.05)
