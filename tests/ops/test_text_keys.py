from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from brokers import wait_until
from sqlalchemy import event

from feedback.log import LogUnavailable
from feedback.seal import KeysUnavailable, Owner
from ops.database import DatabaseUnavailable, database_of
from ops.master_keys import master_keys
from ops.settings import load_settings
from ops.text_keys import SqlTextKeys

ALICE, BOB = Owner("p", "alice"), Owner("p", "bob")
FIRST, SECOND = b"1" * 32, b"2" * 32


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def opened(tmp_path, clock):
    """Opens the keys of one file as a process of its own would."""
    with openers(tmp_path / "plaudit.db", clock) as open_one:
        yield open_one


@pytest.fixture(params=["sqlite", "postgres"])
def anywhere(request, tmp_path, clock):
    """The same on each database."""
    sqlite = request.param == "sqlite"
    with openers(tmp_path / "plaudit.db" if sqlite else request.getfixturevalue("postgres").create(), clock) as open_one:
        yield open_one


class Outage:
    """A database that can be taken away. ``asked`` counts how often it was asked meanwhile."""

    def __init__(self, path, clock):
        self.down, self.asked = False, 0
        self.engine = database_of(path)
        event.listen(self.engine, "begin", self._begin)
        self.keys = SqlTextKeys(lambda: self.engine, lambda: (FIRST,), clock)

    def _begin(self, connection):
        if self.down:
            self.asked += 1
            raise DatabaseUnavailable("the database does not answer")


@pytest.fixture
def outage(tmp_path, clock):
    made = Outage(tmp_path / "plaudit.db", clock)
    yield made
    made.keys.close()


@contextmanager
def openers(where, clock):
    made = []

    def open_one(*masters: bytes) -> SqlTextKeys:
        made.append(SqlTextKeys(lambda: database_of(where), lambda: masters or (FIRST,), clock))
        return made[-1]

    yield open_one
    for keys in made:
        keys.close()


def opens(sealed: str, keys: SqlTextKeys, owner: Owner = ALICE, version: int = 1) -> bool:
    found = keys.find([(owner, version)])
    return (owner, version) in found and found[owner, version].open(sealed, b"") == b"text"


def test_a_key_is_on_disk_before_it_is_given_and_the_same_for_every_process(opened, tmp_path):
    sealed = opened().newest([ALICE])[ALICE].seal(b"text", b"")
    rows = sqlite3.connect(tmp_path / "plaudit.db").execute("SELECT project, user, version FROM text_keys").fetchall()
    assert rows == [("p", "alice", 1)]
    other = opened()
    assert opens(sealed, other)
    assert other.newest([ALICE])[ALICE].seal(b"text", b"") == sealed


def test_each_user_of_each_project_has_a_key_of_their_own(anywhere):
    keys = anywhere()
    owners = [ALICE, BOB, Owner("q", "alice")]
    assert len({key.seal(b"text", b"") for key in keys.newest(owners).values()}) == 3


def test_processes_that_make_a_key_at_once_get_the_same(anywhere):
    stores, together = [anywhere() for _ in range(8)], threading.Barrier(8)

    def make(keys: SqlTextKeys) -> set[str]:
        together.wait(10)
        return {key.seal(b"text", b"") for key in keys.newest([Owner("p", f"u{n}") for n in range(50)]).values()}

    with ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(make, stores)
    assert len(first) == 50
    assert all(other == first for other in others)


def test_many_new_users_cost_one_transaction(opened):
    keys = opened()
    keys.newest([ALICE])
    statements: list[str] = []
    event.listen(keys._engine, "commit", lambda connection: statements.append("commit"))
    keys.newest([Owner("p", f"u{n}") for n in range(300)])
    assert statements == ["commit"]


def test_an_erased_users_key_is_nowhere_and_the_next_one_has_another_version(opened, tmp_path):
    keys = opened()
    people = [Owner("p", f"u{n:03}") for n in range(400)]  # many pages
    sealed = {owner: key.seal(b"text", b"") for owner, key in keys.newest(people).items()}
    with sqlite3.connect(tmp_path / "plaudit.db") as connection:
        wrapped = dict(connection.execute("SELECT user, wrapped FROM text_keys"))
    connection.close()
    gone = people[::3]
    for owner in gone:
        assert keys.erase(owner, now=5.0) == 1
    bytes_on_disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not [owner for owner in gone if wrapped[owner.user] in bytes_on_disk]
    assert wrapped["u001"] in bytes_on_disk
    assert not opens(sealed[gone[0]], keys, gone[0])
    assert opens(sealed[people[1]], keys, people[1])
    assert keys.newest([gone[0]])[gone[0]].version == 2
    assert keys.erase(gone[0], now=6.0) == 1
    assert [(e.user, e.time) for e in keys.erased("p")][-1] == ("u000", 6.0)
    assert keys.erased("q") == []


def test_copies_in_a_journal_that_is_being_read_are_told_of(tmp_path, request):
    engine = database_of(tmp_path / "plaudit.db")
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout = 0"))
    keys = SqlTextKeys(lambda: engine, lambda: (FIRST,), busy_s=0.0)
    request.addfinalizer(keys.close)
    keys.newest([ALICE])
    reader = sqlite3.connect(tmp_path / "plaudit.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM text_keys").fetchall()
    with pytest.raises(LogUnavailable, match="erase again"):
        keys.erase(ALICE, now=5.0)
    reader.execute("COMMIT")
    assert keys.erase(ALICE, now=6.0) == 0
    assert (tmp_path / "plaudit.db-wal").stat().st_size == 0
    reader.close()


def test_an_erasure_by_another_process_is_noticed_within_a_second(anywhere, clock):
    mine, theirs = anywhere(), anywhere()
    sealed = mine.newest([ALICE])[ALICE].seal(b"text", b"")
    assert opens(sealed, mine)
    theirs.erase(ALICE, now=5.0)
    assert mine.known(ALICE) is not None  # for a moment more: what it seals now, nobody will read
    clock.now = 1.01
    assert mine.known(ALICE) is None
    assert not opens(sealed, mine)
    assert mine.newest([ALICE])[ALICE].version == 2


def test_what_is_sealed_with_a_destroyed_key_is_never_read(anywhere, clock):
    mine, theirs = anywhere(), anywhere()
    mine.newest([ALICE])
    theirs.erase(ALICE, now=5.0)
    stale = mine.known(ALICE).seal(b"text", b"")
    clock.now = 1.01
    assert not opens(stale, mine)
    assert not opens(stale, theirs)


def test_who_asks_what_is_known_never_waits_for_the_database(tmp_path, request):
    engine, asking, go_on = database_of(tmp_path / "plaudit.db"), threading.Event(), threading.Event()
    keys = SqlTextKeys(lambda: engine, lambda: (FIRST,))
    request.addfinalizer(keys.close)
    keys.newest([ALICE])

    def slow(*_):
        asking.set()
        assert go_on.wait(10)

    event.listen(engine, "before_cursor_execute", slow)
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(keys.newest, [BOB])
        assert asking.wait(10)
        assert keys.known(ALICE) is None
        go_on.set()
        assert made.result(10)[BOB].version == 1
    assert keys.known(ALICE).version == 1


def test_another_database_than_the_writers_is_no_erasure(opened, tmp_path, clock):
    opened().newest([ALICE])
    with (
        openers(tmp_path / "other.db", clock) as open_other,
        pytest.raises(LogUnavailable, match="p/alice and 0 more are not in"),
    ):
        open_other().find([(ALICE, 1)])


def test_keys_are_not_known_before_the_first_look(opened):
    keys = opened()
    assert keys.known(ALICE) is None
    keys.newest([ALICE])
    assert keys.known(ALICE).version == 1
    assert keys.known(BOB) is None


def test_master_keys_rotate_and_texts_stay(anywhere):
    old = anywhere(FIRST)
    sealed = old.newest([ALICE])[ALICE].seal(b"text", b"")
    old.newest([BOB])
    old.erase(BOB, now=5.0)
    rotating = anywhere(SECOND, FIRST)
    assert opens(sealed, rotating)
    assert rotating.rewrap() == 1
    assert rotating.rewrap() == 0
    assert opens(sealed, anywhere(SECOND))
    with pytest.raises(LogUnavailable, match="PLAUDIT_TEXT_KEYS_PREVIOUS"):
        anywhere(FIRST).newest([ALICE])


def test_a_key_altered_in_the_database_is_refused(opened, tmp_path):
    opened().newest([ALICE, BOB])
    with sqlite3.connect(tmp_path / "plaudit.db") as connection:
        connection.execute(
            "UPDATE text_keys SET wrapped = (SELECT wrapped FROM text_keys WHERE user = 'bob') WHERE user = 'alice'"
        )
    connection.close()
    with pytest.raises(LogUnavailable, match="p/alice was altered"):
        opened().newest([ALICE])


def test_master_keys_come_from_the_settings_newest_first(tmp_path):
    secret = {"data_dir": tmp_path, "secret": "long enough to be a secret"}
    (derived,) = master_keys(load_settings(**secret))
    rotated = master_keys(load_settings(**secret, text_key="third", text_keys_previous="second, first"))
    assert len({*rotated}) == 4
    assert rotated[-1] == derived
    assert rotated[1:3] == master_keys(load_settings(**secret, text_key="second", text_keys_previous="first"))[:2]


def test_a_database_that_cannot_be_opened_is_an_unavailable_log(tmp_path):
    (tmp_path / "plaudit.db").write_bytes(b"not a database " * 1000)
    keys = SqlTextKeys(lambda: database_of(tmp_path / "plaudit.db"), lambda: (FIRST,))
    with pytest.raises(LogUnavailable, match="text keys"):
        keys.newest([ALICE])
    keys.close()


def test_known_keys_seal_for_five_minutes_while_the_database_is_away_and_unknown_ones_are_refused_at_once(outage, clock):
    keys = outage.keys
    key = keys.newest([ALICE])[ALICE]
    outage.down = True
    clock.now = 1.01
    assert keys.known(ALICE) is None, "nobody knows yet that the database is away"
    assert keys.newest([ALICE]) == {ALICE: key}
    assert keys.known(ALICE) is key
    asked = outage.asked
    with pytest.raises(KeysUnavailable, match="does not answer") as refusal:
        keys.newest([ALICE, BOB])
    assert refusal.value.owners == {BOB}
    assert outage.asked == asked == 1, "nobody waits for a database that is known to be away"
    clock.now = 300.0
    assert keys.known(ALICE) is key
    clock.now = 300.01
    assert keys.known(ALICE) is None
    with pytest.raises(KeysUnavailable) as refusal:
        keys.newest([ALICE])
    assert refusal.value.owners == {ALICE}


def test_who_finds_the_database_away_is_refused_only_those_whose_keys_are_not_in_memory(outage):
    key = outage.keys.newest([ALICE])[ALICE]
    outage.down = True  # within the second for which nobody looks
    with pytest.raises(KeysUnavailable) as refusal:
        outage.keys.newest([ALICE, BOB])
    assert refusal.value.owners == {BOB}
    assert outage.keys.newest([ALICE]) == {ALICE: key}


def test_nothing_is_opened_from_memory_while_nobody_can_say_who_was_erased(outage, clock):
    keys = outage.keys
    sealed = keys.newest([ALICE])[ALICE].seal(b"text", b"")
    assert opens(sealed, keys)
    outage.down = True
    clock.now = 1.01
    for _ in range(2):
        with pytest.raises(KeysUnavailable):
            opens(sealed, keys)


def test_a_database_that_is_back_is_noticed_by_who_seals_from_memory_and_so_is_an_erasure_meanwhile(outage, opened, clock):
    keys = outage.keys
    keys.newest([ALICE, BOB])
    outage.down = True
    clock.now = 1.01
    keys.newest([ALICE])
    opened().erase(ALICE, now=5.0)
    stale = keys.known(ALICE).seal(b"text", b"")  # another process's erasure, out of reach
    outage.down = False
    assert keys.known(ALICE) is not None, "it is asked again in a second"
    clock.now = 2.01
    wait_until(lambda: keys.known(ALICE) is None, "the erasure is known")
    assert keys.newest([ALICE])[ALICE].version == 2
    assert not opens(stale, keys)
    assert keys.newest([BOB])[BOB].version == 1


def test_while_it_stays_away_it_is_asked_once_a_second(outage, clock):
    keys = outage.keys
    keys.newest([ALICE])
    outage.down = True
    for second in range(1, 4):
        clock.now = 1.01 * second
        keys.newest([ALICE])
        wait_until(lambda second=second: keys.newest([ALICE]) and outage.asked == second, "it was asked")
        wait_until(lambda: keys._asking is None, "and has not answered")
        for _ in range(20):
            assert keys.known(ALICE) is not None
        assert outage.asked == second


def test_an_erasure_of_which_nobody_knows_whether_it_was_done_leaves_no_key_in_memory(outage, clock):
    keys = outage.keys
    keys.newest([ALICE])
    outage.down = True
    with pytest.raises(KeysUnavailable):
        keys.erase(ALICE, now=5.0)
    assert keys.known(ALICE) is None
    with pytest.raises(KeysUnavailable):
        keys.newest([ALICE])


def test_keys_whose_database_was_never_there_are_had_once_it_is(outage, clock):
    keys = outage.keys
    outage.down = True
    with pytest.raises(KeysUnavailable):
        keys.newest([ALICE])
    outage.down = False
    clock.now = 1.01
    with pytest.raises(KeysUnavailable):
        keys.newest([ALICE])
    wait_until(lambda: keys._asking is None, "it was asked")
    assert keys.newest([ALICE])[ALICE].version == 1
