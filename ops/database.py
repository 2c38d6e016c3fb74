"""The SQL database: the data folder's SQLite file, or a PostgreSQL (``database_url``) that several machines share.

Tables are made where they are missing and never altered: what a later version keeps beside gets a table of its own,
which older ones do not look at. So all there is of a schema's history is one number, and a program leaves a database
alone whose number is greater than its own. Alembic would add a folder of revisions, each to be tried on two databases,
and nothing that could be revised yet; the first change to a table that exists brings it, and begins where the number is.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Table, create_engine, event, inspect, select, text
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.schema import CreateIndex, CreateTable

from ops.errors import CommandError, SettingsError
from ops.settings import Settings

SCHEMA_VERSION = 1
"""Greater by one whenever a program that does not know the change would do harm. A further table is no such change."""

_BUSY_S = 10.0
_SCHEMA_LOCK = 0x706C_6175_6469_7400
"""Of PostgreSQL's advisory locks, the one under which tables are made: "plaudit" and a zero, as a number."""

_TROUBLE = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN}
)
"""SQLite's errors that are the disk's, or other processes'; the others of their class are mistakes of ours."""

_DAMAGE = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})

_versions = MetaData()
_version = Table("schema_version", _versions, Column("version", Integer, primary_key=True, autoincrement=False))


class DatabaseUnavailable(CommandError):
    """The database does not answer, or not in time. What was to be written may or may not have been."""


def database_of(where: Settings | Path | str) -> Engine:
    """The engine of a settings' database, or of a URL or an SQLite file. PostgreSQL is not asked for anything yet.

    Whatever goes wrong on the way to the database is raised as `DatabaseUnavailable`. An SQLite file is made if need be,
    for its owner's eyes only. Raises `SettingsError` for a URL that is none.
    """
    if isinstance(where, Settings):
        where = where.database_path if where.database_url is None else where.database_url.get_secret_value()
    engine = _postgres(where) if isinstance(where, str) and "://" in where else _sqlite(Path(where))
    event.listen(engine, "handle_error", lambda context: _explained(engine, context), retval=True)
    return engine


def create_tables(engine: Engine, metadata: MetaData) -> None:
    """Make the tables that are missing, with their indexes; any number of processes may do so at once.

    Raises `CommandError` for a database that a newer version has changed.
    """
    there: set[str] = set()
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _SCHEMA_LOCK})
            # For who may only read and write rows: CREATE wants more rights, though it would find nothing to do.
            there = set(inspect(connection).get_table_names())
        _create(connection, (table for table in _versions.sorted_tables if table.name not in there))
        _check_version(connection, engine)
        _create(connection, (table for table in metadata.sorted_tables if table.name not in there))


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


def _postgres(url: str) -> Engine:
    from ops.postgres import open_postgres  # psycopg is for those who use it

    try:
        return open_postgres(make_url(url))
    except (ArgumentError, ValueError) as error:  # without its text, which may tell the password
        raise SettingsError(
            "database_url: this is no address of a PostgreSQL. Set PLAUDIT_DATABASE_URL to postgresql://user:password@host:5432/"
            "name, with special characters of the password as %XX."
        ) from error


def _sqlite(path: Path) -> Engine:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": _BUSY_S})
    event.listen(engine, "connect", _configure)
    return engine


def _configure(connection: Any, record: object) -> None:
    write_ahead(connection)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA cache_size=-400")  # KiB, of every connection that a pool holds
    connection.execute("PRAGMA secure_delete=ON")  # a destroyed key is to be nowhere


def _create(connection: Connection, tables: Iterable[Table]) -> None:
    for table in tables:
        connection.execute(CreateTable(table, if_not_exists=True))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            connection.execute(CreateIndex(index, if_not_exists=True))


def _check_version(connection: Connection, engine: Engine) -> None:
    """One statement writes the first number, so that of two processes at once one does."""
    found = connection.execute(select(_version.c.version)).scalar()
    if found is None:
        only = "INSERT INTO schema_version (version) SELECT :version WHERE NOT EXISTS (SELECT 1 FROM schema_version)"
        connection.execute(text(only), {"version": SCHEMA_VERSION})
    elif found > SCHEMA_VERSION:
        raise CommandError(
            f"the database {_name(engine)} has schema {found}, and this Plaudit knows {SCHEMA_VERSION}: a newer one has "
            "changed it; update this one"
        )


def _explained(engine: Engine, context: ExceptionContext) -> Exception | None:
    """`DatabaseUnavailable` in place of a driver's error that says so. A ping that fails is the pool's to mend."""
    error = context.original_exception
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, sqlite3.Error) and _code(error) in _DAMAGE:
        explained = DatabaseUnavailable(f"the database {_name(engine)} is damaged: {first}; put a copy from before in its place")
    elif context.is_pre_ping or not _is_away(error):
        return None
    else:
        explained = DatabaseUnavailable(f"the database {_name(engine)} does not answer: {first}")
    explained.__cause__ = error
    return explained


def _code(error: sqlite3.Error) -> int:
    """SQLite's own, without what it says beyond the kind; Python's own errors have none."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _is_away(error: BaseException) -> bool:
    if isinstance(error, sqlite3.OperationalError):
        return _code(error) in _TROUBLE
    if isinstance(error, sqlite3.Error):
        return False
    # psycopg's by name: connections, resources, shutdown and timeouts are Operational, a standby's refusal to write is not.
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"OperationalError", "InterfaceError", "ReadOnlySqlTransaction"})


def _name(engine: Engine) -> str:
    """Where it is, without the password."""
    url = engine.url
    return str(url.database) if url.host is None else f"{url.host}:{url.port or 5432}/{url.database}"
