"""Counters that end by themselves, in a SQLite file: how the workers of one machine count a key's limits together."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from limits.aio.storage import Storage

from ops.database import write_ahead
from ops.process import is_alive

_BUSY_S = 0.25
"""How long one call waits for the other workers'; each takes microseconds."""

SLOT = "slot/"
"""Begins the keys that a process holds while it lives: should it be killed, they are free at once."""

_TABLE = """
CREATE TABLE IF NOT EXISTS counts (
  key TEXT PRIMARY KEY, value INTEGER NOT NULL, expires REAL NOT NULL, holder INTEGER NOT NULL) STRICT"""
_ADD = """
INSERT INTO counts VALUES (:key, :amount, :now + :expiry, :holder) ON CONFLICT (key) DO UPDATE SET
  value = :amount + CASE WHEN expires > :now AND lives(holder) THEN value ELSE 0 END,
  expires = CASE WHEN expires > :now AND lives(holder) THEN expires ELSE :now + :expiry END,
  holder = CASE WHEN expires > :now AND lives(holder) THEN holder ELSE :holder END
RETURNING value"""
_GET = "SELECT value, expires FROM counts WHERE key = :key AND expires > :now"

_NOBODY = 0


class SqliteCounters(Storage):
    """A storage of the limits library's: `incr` is one statement, so that two workers never see the same count.

    Nothing here need outlive the machine, so nothing waits for the disk. One thread works; the event loop waits for none.
    """

    STORAGE_SCHEME = None

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        super().__init__(wrap_exceptions=True)
        self._clock = clock
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        write_ahead(self._connection)
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.create_function("lives", 1, _lives)
        self._connection.execute(_TABLE)
        self._run("DELETE FROM counts WHERE expires <= :now", {})
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="counters")

    @property
    def base_exceptions(self) -> type[Exception]:
        return sqlite3.Error

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        holder = os.getpid() if key.startswith(SLOT) else _NOBODY
        (row,) = await self._ask(_ADD, key=key, expiry=expiry, amount=amount, holder=holder)
        return int(row[0])

    async def get(self, key: str) -> int:
        return next((int(value) for value, _ in await self._ask(_GET, key=key)), 0)

    async def get_expiry(self, key: str) -> float:
        return next((float(expires) for _, expires in await self._ask(_GET, key=key)), self._clock())

    async def clear(self, key: str) -> None:
        await self._ask("DELETE FROM counts WHERE key = :key", key=key)

    async def reset(self) -> int | None:
        return len(await self._ask("DELETE FROM counts RETURNING key"))

    async def check(self) -> bool:
        await self._ask("SELECT 1")
        return True

    def close(self) -> None:
        self._thread.shutdown()
        self._connection.close()

    async def _ask(self, statement: str, **values: object) -> list[tuple[float, ...]]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, statement, values)

    def _run(self, statement: str, values: dict[str, object]) -> list[tuple[float, ...]]:
        return self._connection.execute(statement, {**values, "now": self._clock()}).fetchall()


def _lives(holder: int) -> bool:
    return holder == _NOBODY or is_alive(holder)
