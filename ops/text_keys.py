"""Users' keys for what they write, in SQL: each wrapped by the settings' master key, and destroyed with its user.

A key is on disk before anything is sealed with it. A destroyed key's row stays, without the key, so that the user's next key
has another version; no process believes its memory for longer than a second without a look whether somebody was erased.
"""

from __future__ import annotations

import hmac
import os
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from feedback.log import LogUnavailable
from feedback.seal import KEY_BYTES, DataKey, Owner
from ops.database import create_tables, database_of
from ops.errors import UserError
from ops.secrets import load_secret, subkey
from ops.settings import Settings
from ops.sql import BUSY_S, checkpoint, insert_missing

_LOOK_S = 1.0
"""How long keys in memory are believed without a look at the erasures."""

_WRITERS = 2_000
_READ = 5_000
"""Keys that are kept in memory, for sealing and for opening: each takes half a kilobyte."""

_AT_ONCE = 500
_NONCE_BYTES = 12
_WRAPPED_BYTES = _NONCE_BYTES + KEY_BYTES + 16
_DESTROYED = bytes(_WRAPPED_BYTES)
"""Written over a key in its place, in as many bytes: no page is split or moved, and no copy is left behind."""

_K = TypeVar("_K")

_metadata = MetaData()

text_keys = Table(
    "text_keys",
    _metadata,
    Column("project", String, primary_key=True),
    Column("user", String, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("master", String, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
)
erasures = Table(
    "erasures",
    _metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("project", String, nullable=False),
    Column("user", String, nullable=False),
    Column("time", Float, nullable=False),
)


class Erasure(NamedTuple):
    """A user, by hash, whose keys were destroyed at ``time`` (Unix seconds)."""

    project: str
    user: str
    time: float


class _Master(NamedTuple):
    """A master key. ``id`` tells it from others, and nothing else."""

    id: str
    cipher: AESGCM

    @classmethod
    def of(cls, secret: bytes) -> _Master:
        return cls(hmac.digest(secret, b"id", "sha256")[:8].hex(), AESGCM(secret))


class SqlTextKeys:
    """The keys in the database that ``open()`` gives, asked for when the first key is, as is ``masters()``: the master keys.

    The first of those wraps, the others only unwrap. An erasure waits ``busy_s`` for readers of the database's journal.
    """

    def __init__(
        self,
        open: Callable[[], Engine],
        masters: Callable[[], Sequence[bytes]],
        clock: Callable[[], float] = time.monotonic,
        busy_s: float = BUSY_S,
    ) -> None:
        self._open, self._given, self._clock, self._busy_s = open, masters, clock, busy_s
        self._opened: Engine | None = None
        self._masters: dict[str, _Master] = {}
        self._lock = threading.Lock()
        self._erasures = -1
        self._looked = float("-inf")
        self._newest: OrderedDict[Owner, DataKey] = OrderedDict()
        self._found: OrderedDict[tuple[Owner, int], DataKey] = OrderedDict()

    @classmethod
    def of(cls, settings: Settings) -> SqlTextKeys:
        """The settings' database's. Nothing is opened, and no secret made, before the first key is asked for."""
        return cls(lambda: database_of(settings), lambda: master_keys(settings))

    def known(self, owner: Owner) -> DataKey | None:
        if not self._lock.acquire(blocking=False):  # somebody asks the database, who knows for how long
            return None
        try:
            return None if self._clock() - self._looked > _LOOK_S else _recall(self._newest, owner)
        finally:
            self._lock.release()

    def newest(self, owners: Collection[Owner]) -> Mapping[Owner, DataKey]:
        if not owners:
            return {}
        with self._lock, self._available():
            self._look()
            keys = {owner: key for owner in owners if (key := _recall(self._newest, owner)) is not None}
            for some in _portions([owner for owner in owners if owner not in keys]):
                made = self._ensure(some)
                keys |= made
                _remember(self._newest, made, _WRITERS)
            return keys

    def find(self, wanted: Collection[tuple[Owner, int]]) -> Mapping[tuple[Owner, int], DataKey]:
        if not wanted:
            return {}
        with self._lock, self._available():
            self._look()
            keys = {want: key for want in wanted if (key := _recall(self._found, want)) is not None}
            missing = {want for want in wanted if want not in keys}
            for some in _portions([*{owner for owner, _ in missing}]):
                with self._engine.connect() as connection:
                    rows = [row for row in _rows_of(connection, some) if (_owner(row), row.version) in missing]
                _check_all_there(rows, {want for want in missing if want[0] in some})
                read = {(_owner(row), row.version): self._unwrap(row) for row in rows if row.wrapped != _DESTROYED}
                keys |= read
                _remember(self._found, read, _READ)
            return keys

    def erase(self, owner: Owner, now: float) -> int:
        """Destroy all of a user's keys, durably; how many there were. ``now`` in Unix seconds.

        Raises `LogUnavailable`; also where copies in the database's journal could not be overwritten, since somebody reads them:
        the keys are destroyed by then, and erasing again overwrites the copies.
        """
        with self._lock, self._available():
            self._prepare()
            theirs = (text_keys.c.project == owner.project) & (text_keys.c.user == owner.user)
            with self._engine.begin() as connection:
                connection.execute(insert(erasures).values(project=owner.project, user=owner.user, time=now))
                standing = update(text_keys).where(theirs, text_keys.c.wrapped != _DESTROYED)
                destroyed = connection.execute(standing.values(wrapped=_DESTROYED)).rowcount
            self._forget()
            if not checkpoint(self._engine, self._busy_s):
                raise LogUnavailable(
                    "the keys are destroyed, but copies are left in the journal, which is being read: erase again"
                )
            return int(destroyed)

    def erased(self, project: str) -> list[Erasure]:
        """The project's erasures, oldest first."""
        with self._lock, self._available():
            self._prepare()
            query = select(erasures).where(erasures.c.project == project).order_by(erasures.c.number)
            with self._engine.connect() as connection:
                return [Erasure(row.project, row.user, row.time) for row in connection.execute(query)]

    def rewrap(self) -> int:
        """Wrap with the first master key what others have wrapped; how many keys that were. Users' keys stay what they are."""
        with self._lock, self._available():
            self._prepare()
            count = 0
            while rows := self._foreign():
                with self._engine.begin() as connection:
                    for row in rows:
                        count += self._rewrap(connection, row)
            checkpoint(self._engine, self._busy_s)
            return count

    def close(self) -> None:
        if self._opened is not None:
            self._opened.dispose()

    @property
    def _engine(self) -> Engine:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    @contextmanager
    def _available(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise LogUnavailable(f"users' text keys cannot be read or written: {error}") from error
        except UserError as error:  # the database is away, or a setting is wrong
            raise LogUnavailable(str(error)) from error

    def _prepare(self) -> None:
        if not self._masters:
            create_tables(self._engine, _metadata)
            masters = [_Master.of(secret) for secret in self._given()]
            self._masters = {master.id: master for master in masters}

    def _look(self) -> None:
        """Forget all keys if somebody has been erased since the last look."""
        self._prepare()
        now = self._clock()
        if now - self._looked <= _LOOK_S:
            return
        with self._engine.connect() as connection:
            number = connection.execute(select(func.max(erasures.c.number))).scalar() or 0
        if number != self._erasures:
            self._forget()
        self._erasures, self._looked = number, now

    def _forget(self) -> None:
        self._newest.clear()
        self._found.clear()

    def _ensure(self, owners: Sequence[Owner]) -> dict[Owner, DataKey]:
        """The newest key of each, made where there is none that stands. Two processes that make one at once get the same."""
        with self._engine.begin() as connection:
            newest = _newest_rows(connection, owners)
            lacking = [owner for owner in owners if owner not in newest or newest[owner].wrapped == _DESTROYED]
            if lacking:
                versions = {owner: newest[owner].version + 1 if owner in newest else 1 for owner in lacking}
                insert_missing(connection, text_keys, [self._fresh(owner, version) for owner, version in versions.items()])
                newest |= _newest_rows(connection, lacking)
        return {owner: self._unwrap(row) for owner, row in newest.items()}

    def _fresh(self, owner: Owner, version: int) -> dict[str, Any]:
        master = next(iter(self._masters.values()))
        wrapped = _wrap(master, os.urandom(KEY_BYTES), owner, version)
        return {"project": owner.project, "user": owner.user, "version": version, "master": master.id, "wrapped": wrapped}

    def _unwrap(self, row: Any) -> DataKey:
        return DataKey(row.version, self._secret(row))

    def _secret(self, row: Any) -> bytes:
        master = self._masters.get(row.master)
        if master is None:
            text = f"users' text keys are wrapped with the master key {row.master}, which is not in the settings"
            raise LogUnavailable(f"{text}: give it in PLAUDIT_TEXT_KEYS_PREVIOUS, or restore the data folder's secret")
        nonce, sealed = row.wrapped[:_NONCE_BYTES], row.wrapped[_NONCE_BYTES:]
        try:
            return master.cipher.decrypt(nonce, sealed, _context(_owner(row), row.version))
        except InvalidTag as error:
            raise LogUnavailable(f"a text key of {row.project}/{row.user} was altered in the database: restore it") from error

    def _foreign(self) -> Sequence[Any]:
        first = next(iter(self._masters))
        others = select(text_keys).where(text_keys.c.master != first, text_keys.c.wrapped != _DESTROYED).limit(_AT_ONCE)
        with self._engine.connect() as connection:
            return connection.execute(others).all()

    def _rewrap(self, connection: Connection, row: Any) -> int:
        master = next(iter(self._masters.values()))
        wrapped = _wrap(master, self._secret(row), _owner(row), row.version)
        same = [column == row._mapping[column] for column in text_keys.c]  # unless it has been destroyed since
        return int(connection.execute(update(text_keys).where(*same).values(master=master.id, wrapped=wrapped)).rowcount)


def master_keys(settings: Settings) -> list[bytes]:
    """The key that wraps users' keys, then those that only unwrap; the one derived from the data folder's secret is the last."""
    given = [] if settings.text_key is None else [settings.text_key.get_secret_value()]
    older = settings.text_keys_previous
    given += [] if older is None else [key.strip() for key in older.get_secret_value().split(",") if key.strip()]
    return [*(subkey(key.encode(), "text-keys") for key in given), subkey(load_secret(settings), "text-keys")]


def _wrap(master: _Master, secret: bytes, owner: Owner, version: int) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + master.cipher.encrypt(nonce, secret, _context(owner, version))


def _context(owner: Owner, version: int) -> bytes:
    return f"plaudit text key v1\0{owner.project}\0{owner.user}\0{version}".encode()


def _owner(row: Any) -> Owner:
    return Owner(row.project, row.user)


def _check_all_there(rows: Sequence[Any], wanted: Collection[tuple[Owner, int]]) -> None:
    """A destroyed key's row stays: one that is missing was made in another database. Its text is not to be taken for erased."""
    lacking = {want for want in wanted if want not in {(_owner(row), row.version) for row in rows}}
    if lacking:
        (owner, version) = min(lacking)
        text = f"the key {version} of {owner.project}/{owner.user} and {len(lacking) - 1} more are not in this database"
        raise LogUnavailable(f"users' text keys: {text}: give all processes the same PLAUDIT_DATABASE_URL, or restore it")


def _portions(owners: Sequence[Owner]) -> Iterator[Sequence[Owner]]:
    return (owners[start : start + _AT_ONCE] for start in range(0, len(owners), _AT_ONCE))


def _rows_of(connection: Connection, owners: Iterable[Owner]) -> list[Any]:
    users: defaultdict[str, list[str]] = defaultdict(list)
    for owner in owners:
        users[owner.project].append(owner.user)
    rows: list[Any] = []
    for project, names in users.items():
        names += names[-1:] * ((1 << (len(names) - 1).bit_length()) - len(names))  # few statements for SQLite to remember
        rows += connection.execute(select(text_keys).where(text_keys.c.project == project, text_keys.c.user.in_(names)))
    return rows


def _newest_rows(connection: Connection, owners: Iterable[Owner]) -> dict[Owner, Any]:
    newest: dict[Owner, Any] = {}
    for row in sorted(_rows_of(connection, owners), key=lambda row: row.version):
        newest[_owner(row)] = row
    return newest


def _recall(memory: OrderedDict[_K, DataKey], name: _K) -> DataKey | None:
    key = memory.get(name)
    if key is not None:
        memory.move_to_end(name)
    return key


def _remember(memory: OrderedDict[_K, DataKey], keys: Mapping[_K, DataKey], most: int) -> None:
    memory.update(keys)
    while len(memory) > most:
        memory.popitem(last=False)
