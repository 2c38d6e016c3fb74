"""The SQL database: tables made by many at once, deadlines, and what is said when it is away; a real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from postgres import PASSWORD, PostgresServer
from sqlalchemy import Column, Engine, Integer, MetaData, Table, event, inspect, text
from sqlalchemy.exc import OperationalError

from ops.database import SCHEMA_VERSION, DatabaseUnavailable, create_tables, database_of
from ops.environment import environment_of
from ops.errors import CommandError, SettingsError
from ops.settings import load_settings

METADATA = MetaData()
THINGS = Table("things", METADATA, Column("id", Integer, primary_key=True), Column("size", Integer, index=True))


@pytest.fixture
def opened() -> Iterator[Callable[..., Engine]]:
    """Opens databases, and closes them after the test."""
    engines: list[Engine] = []

    def open_one(where: Path | str) -> Engine:
        engines.append(database_of(where))
        return engines[-1]

    yield open_one
    for engine in engines:
        engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "plaudit.db") if request.param == "sqlite" else request.getfixturevalue("postgres").create()


def test_tables_are_made_once_by_however_many_come_at_once(where: str, opened: Callable[..., Engine]):
    engines = [opened(where) for _ in range(6)]
    for _ in range(5):
        together = threading.Barrier(len(engines))

        def make(engine: Engine, together: threading.Barrier = together) -> None:
            together.wait(10)
            create_tables(engine, METADATA)

        with ThreadPoolExecutor(len(engines)) as pool:
            list(pool.map(make, engines))
        with engines[0].begin() as connection:
            assert [index["column_names"] for index in inspect(connection).get_indexes("things")] == [["size"]]
            assert connection.execute(text("SELECT version FROM schema_version")).all() == [(SCHEMA_VERSION,)]
            connection.execute(text("DROP TABLE things"))
            connection.execute(text("DROP TABLE schema_version"))


def test_a_database_that_a_newer_version_has_changed_is_left_alone(where: str, opened: Callable[..., Engine]):
    engine = opened(where)
    create_tables(engine, MetaData())
    with engine.begin() as connection:
        connection.execute(text("UPDATE schema_version SET version = version + 1"))
    with pytest.raises(CommandError, match=f"has schema {SCHEMA_VERSION + 1}, and this Plaudit knows {SCHEMA_VERSION}"):
        create_tables(engine, METADATA)
    assert not inspect(engine).has_table("things")


def test_who_may_only_read_and_write_rows_can_use_tables_that_are_there(postgres: PostgresServer, opened: Callable[..., Engine]):
    url = postgres.create()
    create_tables(opened(url), METADATA)
    with opened(url).begin() as connection:
        connection.execute(text(f"DROP ROLE IF EXISTS clerk; CREATE ROLE clerk LOGIN PASSWORD '{PASSWORD}'"))
        connection.execute(text("GRANT SELECT, INSERT ON things, schema_version TO clerk"))
    clerk = opened(url.replace("//plaudit:", "//clerk:"))
    create_tables(clerk, METADATA)
    with clerk.begin() as connection:
        connection.execute(THINGS.insert().values(id=1, size=2))
    assert opened(url).connect().execute(THINGS.select()).all() == [(1, 2)]
    with opened(url).begin() as connection:
        connection.execute(text("DROP OWNED BY clerk; DROP ROLE clerk"))


def test_a_connection_that_the_server_closed_is_replaced_and_nobody_notices(
    postgres: PostgresServer, opened: Callable[..., Engine]
):
    engine = opened(postgres.create())
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    postgres.stop()
    try:
        with pytest.raises(DatabaseUnavailable) as away, engine.connect():
            pass
    finally:
        postgres.start()
    assert str(away.value).startswith(f"the database 127.0.0.1:{postgres.port}/test")
    assert "refused" in str(away.value)
    assert "\n" not in str(away.value)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    postgres.stop()
    postgres.start()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1


def test_the_server_gives_up_a_statement_that_takes_too_long(postgres: PostgresServer, opened: Callable[..., Engine]):
    url = postgres.create()
    with opened(url).connect() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "4s"
        assert connection.execute(text("SHOW lock_timeout")).scalar() == "4s"
    with (
        pytest.raises(DatabaseUnavailable, match="statement timeout"),
        opened(f"{url}?options=-c%20statement_timeout%3D50").connect() as connection,
    ):
        connection.execute(text("SELECT pg_sleep(60)"))


def test_a_server_that_hangs_is_given_up_and_used_again_when_it_is_well(postgres: PostgresServer, opened: Callable[..., Engine]):
    engine = opened(f"{postgres.create()}?connect_timeout=1")  # libpq makes two seconds of it
    event.listen(engine, "connect", lambda connection, _: setattr(connection, "answer_s", 0.3))
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        postgres.freeze()
        try:
            with pytest.raises(DatabaseUnavailable):
                connection.execute(text("SELECT 2"))
            with pytest.raises(DatabaseUnavailable), engine.connect():
                pass
        finally:
            postgres.thaw()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 3")).scalar() == 3


def test_messages_tell_no_password(postgres: PostgresServer, opened: Callable[..., Engine], tmp_path: Path):
    wrong = postgres.url().replace(PASSWORD, "not-the-password")
    with pytest.raises(DatabaseUnavailable, match="password authentication failed") as refused, opened(wrong).connect():
        pass
    assert "not-the-password" not in str(refused.value)
    with pytest.raises(SettingsError, match="PLAUDIT_DATABASE_URL") as wrong_port:
        database_of("postgresql://plaudit:hunter2@host:port/name")
    for url in ("mysql://root:hunter2@host/name", "sqlite:///hunter2", "hunter2"):
        with pytest.raises(SettingsError, match="PLAUDIT_DATABASE_URL") as wrong_kind:
            load_settings(database_url=url)
        assert "hunter2" not in f"{wrong_kind.value} {wrong_port.value}"
    assert "hunter2" not in repr(load_settings(database_url="postgresql://plaudit:hunter2@host/name"))


def test_a_full_disk_is_the_databases_trouble_and_a_mistake_in_a_statement_is_ours(tmp_path: Path, opened: Callable[..., Engine]):
    engine = opened(tmp_path / "plaudit.db")
    create_tables(engine, METADATA)
    with engine.connect() as connection:
        with pytest.raises(OperationalError, match="no such table"):
            connection.execute(text("SELECT * FROM nowhere"))
        connection.execute(text("PRAGMA max_page_count=1"))
        with pytest.raises(DatabaseUnavailable, match="full"):
            connection.execute(text("CREATE TABLE more AS SELECT zeroblob(1000000)"))
    assert (tmp_path / "plaudit.db").stat().st_mode & 0o777 == 0o600


def test_a_child_has_the_database_of_its_settings_and_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLAUDIT_DATABASE_URL", "postgresql://somebodys@host/own")
    assert environment_of(load_settings())["PLAUDIT_DATABASE_URL"] == "postgresql://somebodys@host/own"
    ours = load_settings(database_url="")
    assert ours.database_url is None
    monkeypatch.setenv("PLAUDIT_DATABASE_URL", environment_of(ours)["PLAUDIT_DATABASE_URL"])
    assert load_settings().database_url is None


def test_a_damaged_file_is_named(tmp_path: Path, opened: Callable[..., Engine]):
    (tmp_path / "plaudit.db").write_bytes(b"no database at all, and longer than its header would be" * 40)
    with pytest.raises(DatabaseUnavailable, match=r"plaudit\.db is damaged: .*put a copy"):
        create_tables(opened(tmp_path / "plaudit.db"), MetaData())
