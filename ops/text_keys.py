"""Users' keys for what they write, in SQL: each wrapped by the settings' master key, and destroyed with its user.

A key is on disk before anything is sealed with it. A destroyed key's row stays, without the key, so that the user's next key
has another version; no process believes its memory for longer than a second without a look whether somebody was erased.

Only while the database is away, keys in memory go on for some minutes, and only for sealing: what is sealed with a key that was
destroyed meanwhile, nobody reads. Then nobody waits for the database either: a thread asks whether it is back.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from feedback.log import LogUnavailable
from feedback.seal import KEY_BYTES, DataKey, KeysUnavailable, Owner
from ops.database import DatabaseUnavailable, create_tables, database_of
from ops.errors import UserError
from ops.master_keys import MasterKey, master_keys
from ops.settings import Settings
from ops.sql import BUSY_S, checkpoint, insert_missing
from ops.text_key_memory import KeyMemory
from ops.text_key_table import (
    DESTROYED,
    Erasure,
    check_all_there,
    destroy,
    erasures_of,
    foreign_rows,
    last_erasure,
    metadata,
    newest_rows,
    owner_of_row,
    portions,
    replace_row,
    rows_of,
    text_keys,
)

_AWAY = "the database with users' text keys does not answer"


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
        self._open, self._given, self._busy_s = open, masters, busy_s
        self._opened: Engine | None = None
        self._masters: dict[str, MasterKey] = {}
        self._lock = threading.Lock()
        self._memory = KeyMemory(clock)
        self._asking: threading.Thread | None = None

    @classmethod
    def of(cls, settings: Settings) -> SqlTextKeys:
        """The settings' database's. Nothing is opened, and no secret made, before the first key is asked for."""
        return cls(lambda: database_of(settings), lambda: master_keys(settings))

    def known(self, owner: Owner) -> DataKey | None:
        if not self._lock.acquire(blocking=False):  # somebody asks the database, who knows for how long
            return None
        try:
            self._ask_again()
            return self._memory.newest(owner) if self._memory.seals else None
        finally:
            self._lock.release()

    def newest(self, owners: Collection[Owner]) -> Mapping[Owner, DataKey]:
        if not owners:
            return {}
        with self._lock, self._available(owners):
            try:
                self._look()
            except KeysUnavailable as error:
                if not self._memory.seals:
                    raise KeysUnavailable(str(error), owners) from error
            keys = {owner: key for owner in owners if (key := self._memory.newest(owner)) is not None}
            lacking = [owner for owner in owners if owner not in keys]
            if lacking and self._memory.away:
                raise KeysUnavailable(_AWAY, lacking)
            with self._available(lacking):  # if this is how the database is found away, it is so for these alone
                for some in portions(lacking):
                    made = self._ensure(some)
                    keys |= made
                    self._memory.keep_newest(made)
            return keys

    def find(self, wanted: Collection[tuple[Owner, int]]) -> Mapping[tuple[Owner, int], DataKey]:
        if not wanted:
            return {}
        with self._lock, self._available():
            self._look()
            keys = {want: key for want in wanted if (key := self._memory.found(want)) is not None}
            missing = {want for want in wanted if want not in keys}
            for some in portions([*{owner for owner, _ in missing}]):
                with self._engine.connect() as connection:
                    rows = [row for row in rows_of(connection, some) if (owner_of_row(row), row.version) in missing]
                check_all_there(rows, {want for want in missing if want[0] in some})
                read = {(owner_of_row(row), row.version): self._unwrap(row) for row in rows if row.wrapped != DESTROYED}
                keys |= read
                self._memory.keep_found(read)
            return keys

    def erase(self, owner: Owner, now: float) -> int:
        """Destroy all of a user's keys, durably; how many there were. ``now`` in Unix seconds.

        Raises `LogUnavailable`; also where copies in the database's journal could not be overwritten, since somebody reads them:
        the keys are destroyed by then, and erasing again overwrites the copies.
        """
        with self._lock, self._available():
            self._prepare()
            try:
                with self._engine.begin() as connection:
                    destroyed = destroy(connection, owner, now)
            finally:  # also when nobody knows whether it was done
                self._memory.forget()
            if not checkpoint(self._engine, self._busy_s):
                raise LogUnavailable(
                    "the keys are destroyed, but copies are left in the journal, which is being read: erase again"
                )
            return destroyed

    def erased(self, project: str) -> list[Erasure]:
        """The project's erasures, oldest first."""
        with self._lock, self._available():
            self._prepare()
            with self._engine.connect() as connection:
                return erasures_of(connection, project)

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
    def _available(self, owners: Collection[Owner] = ()) -> Iterator[None]:
        """``owners``: whose keys are asked for."""
        try:
            yield
        except (DatabaseUnavailable, PoolTimeout) as error:
            self._memory.lost()
            raise KeysUnavailable(f"{_AWAY}: {error}", owners) from error
        except SQLAlchemyError as error:
            raise LogUnavailable(f"users' text keys cannot be read or written: {error}") from error
        except UserError as error:  # a setting is wrong
            raise LogUnavailable(str(error)) from error

    def _prepare(self) -> None:
        if not self._masters:
            create_tables(self._engine, metadata)
            masters = [MasterKey.of(secret) for secret in self._given()]
            self._masters = {master.id: master for master in masters}

    def _look(self) -> None:
        """Forget all keys if somebody has been erased since the last look. Raises `KeysUnavailable`; while away, at once."""
        self._ask_again()
        if self._memory.away:
            raise KeysUnavailable(_AWAY)
        self._prepare()
        if not self._memory.fresh:
            with self._available():
                self._memory.looked(self._last_erasure())

    def _last_erasure(self) -> int:
        with self._engine.connect() as connection:
            return last_erasure(connection)

    def _ask_again(self) -> None:
        """Have a thread ask a database that is away, now and then; the lock is held."""
        if self._memory.due and self._asking is None:
            self._asking = threading.Thread(target=self._ask, name="text-keys-database", daemon=True)
            self._asking.start()

    def _ask(self) -> None:
        erasures: int | None = None
        try:
            self._prepare()
            erasures = self._last_erasure()
        except (SQLAlchemyError, UserError):
            pass
        finally:
            with self._lock:
                self._asking = None
                if erasures is None:
                    self._memory.lost()
                else:
                    self._memory.looked(erasures)

    def _ensure(self, owners: Sequence[Owner]) -> dict[Owner, DataKey]:
        """The newest key of each, made where there is none that stands. Two processes that make one at once get the same."""
        with self._engine.begin() as connection:
            newest = newest_rows(connection, owners)
            lacking = [owner for owner in owners if owner not in newest or newest[owner].wrapped == DESTROYED]
            if lacking:
                versions = {owner: newest[owner].version + 1 if owner in newest else 1 for owner in lacking}
                insert_missing(connection, text_keys, [self._fresh(owner, version) for owner, version in versions.items()])
                newest |= newest_rows(connection, lacking)
        return {owner: self._unwrap(row) for owner, row in newest.items()}

    @property
    def _first(self) -> MasterKey:
        return next(iter(self._masters.values()))

    def _fresh(self, owner: Owner, version: int) -> dict[str, Any]:
        wrapped = self._first.wrap(os.urandom(KEY_BYTES), owner, version)
        return {"project": owner.project, "user": owner.user, "version": version, "master": self._first.id, "wrapped": wrapped}

    def _unwrap(self, row: Any) -> DataKey:
        return DataKey(row.version, self._secret(row))

    def _secret(self, row: Any) -> bytes:
        master = self._masters.get(row.master)
        if master is None:
            text = f"users' text keys are wrapped with the master key {row.master}, which is not in the settings"
            raise LogUnavailable(f"{text}: give it in PLAUDIT_TEXT_KEYS_PREVIOUS, or restore the data folder's secret")
        return master.unwrap(row.wrapped, owner_of_row(row), row.version)

    def _foreign(self) -> Sequence[Any]:
        with self._engine.connect() as connection:
            return foreign_rows(connection, self._first.id)

    def _rewrap(self, connection: Connection, row: Any) -> int:
        wrapped = self._first.wrap(self._secret(row), owner_of_row(row), row.version)
        return replace_row(connection, row, self._first.id, wrapped)
