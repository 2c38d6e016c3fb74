"""The tables of keys and projects, which any number of processes may use at once."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, Engine, Float, Integer, MetaData, String, Table

from ops.database import create_tables, database_of
from ops.settings import Settings

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


def open_tables(where: Settings | Path | str) -> Engine:
    """The database of a settings, or of a URL or an SQLite file (`ops.database`), with the tables that were missing.

    Raises `DatabaseUnavailable`.
    """
    engine = database_of(where)
    create_tables(engine, _metadata)
    return engine
