"""What a key may use: requests and tokens a minute, and requests at once; counted by the limits library.

Counts are kept in this process, for several workers in a file they share, for several machines in Redis. A minute
begins with the first request after the last one ended (a fixed window), so that ``retry-after`` is exact. Where the
counts cannot be had, requests go on uncounted: a broken counter must not stop a chat.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import structlog
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, Storage
from limits.errors import StorageError

from ops import metrics
from ops.settings import Settings
from serving.counters import SLOT, SqliteCounters
from serving.errors import RateLimited
from serving.keys import UNLIMITED, Caller, KeyLimits

_DEADLINE_S = 1.0
"""How long a request waits for its limits to be counted before it goes on without."""

_AWAY_S = 1.0
"""How long nobody asks for counts that could not be had."""

_WARN_S = 5.0
_SLOT_MARGIN_S = 30
_FAILURES = (StorageError, OSError, TimeoutError)

_log = structlog.get_logger(__name__)


class Entry:
    """A request that was let in. ``headers`` tell what its key has left; `leave` is called once it is over."""

    headers: dict[str, str] = {}  # noqa: RUF012 - never changed

    async def leave(self, tokens: int = 0) -> None:
        """Charge the tokens it took, and make room for the next. Calling it again changes nothing."""


_UNCOUNTED = Entry()


class Quota:
    """Counts in ``storage``; ``slot_s`` is when a request is over at the latest, whatever became of its gateway."""

    def __init__(self, storage: Storage, slot_s: float, close: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        self._storage = storage
        self._close = close
        self._slot_s = math.ceil(slot_s)
        self._slots: dict[str, _Slots] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._away = False
        self._away_until = 0.0
        self._warn_after = 0.0

    async def enter(self, caller: Caller) -> Entry:
        """Let a request in. Raises `RateLimited`. Keys without limits cost nothing."""
        if caller.limits is UNLIMITED or caller.key_id is None:
            return _UNCOUNTED
        return await self._enter(caller.key_id, caller.limits)

    async def count(self, caller: Caller) -> dict[str, str]:
        """Count a request that is no chat: by requests a minute alone. The headers to answer with; raises `RateLimited`."""
        if caller.limits.requests_per_min is None or caller.key_id is None:
            return {}
        only = KeyLimits(requests_per_min=caller.limits.requests_per_min)
        return (await self._enter(caller.key_id, only)).headers

    async def close(self) -> None:
        """Once all requests are over."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._close is not None:
            await self._close()

    async def _enter(self, key_id: str, limits: KeyLimits) -> Entry:
        """In a task of its own: a client that hangs up meanwhile must not take a slot away with it."""
        if not self._may_ask():
            return _UNCOUNTED
        task = self.spawn(self._take(key_id, limits))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._give_up)
            raise

    def _give_up(self, task: asyncio.Task[Entry]) -> None:
        if not task.cancelled() and task.exception() is None:
            self.spawn(task.result().leave())

    async def _take(self, key_id: str, limits: KeyLimits) -> Entry:
        entry = _Taken(self, key_id, limits)
        try:
            async with asyncio.timeout(_DEADLINE_S):
                await entry.take()
            self._away, self._away_until = False, 0.0
        except _FAILURES as error:
            self.failed(error)
            await entry.leave()
        except RateLimited:
            await entry.leave()
            raise
        return entry

    # what an entry asks of it

    @property
    def storage(self) -> Storage:
        return self._storage

    @property
    def slot_s(self) -> int:
        return self._slot_s

    def slots(self, key_id: str) -> _Slots:
        return self._slots.setdefault(key_id, _Slots())

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def failed(self, error: Exception) -> None:
        """The counts cannot be had: nobody asks for a while, then one request at a time tries."""
        now = time.monotonic()
        self._away, self._away_until = True, now + _AWAY_S
        metrics.QUOTA_UNAVAILABLE.inc()
        if now >= self._warn_after:
            self._warn_after = now + _WARN_S
            _log.warning("limits_not_counted", error=f"{type(error).__name__}: {error}")

    def _may_ask(self) -> bool:
        now = time.monotonic()
        if now < self._away_until:
            return False
        if self._away:
            self._away_until = now + _DEADLINE_S
        return True


class _Taken(Entry):
    """What one request holds of its key's limits."""

    def __init__(self, quota: Quota, key_id: str, limits: KeyLimits) -> None:
        self.headers = {}
        self._quota, self._storage = quota, quota.storage
        self._key_id, self._limits = key_id, limits
        self._slot: int | None = None
        self._slot_ends = 0.0
        self._left = False

    async def take(self) -> None:
        """Tokens, then a slot, then the request itself, so that one that is refused is not counted."""
        if self._limits.tokens_per_min is not None:
            await self._check_tokens(self._limits.tokens_per_min)
        if self._limits.concurrent is not None:
            await self._take_slot(self._limits.concurrent)
        if self._limits.requests_per_min is not None:
            await self._count_request(self._limits.requests_per_min)

    async def leave(self, tokens: int = 0) -> None:
        if self._left:
            return
        self._left = True
        await asyncio.shield(self._quota.spawn(self._leave(tokens)))  # also for a caller who is being cancelled

    async def _leave(self, tokens: int) -> None:
        try:
            async with asyncio.timeout(_DEADLINE_S):
                await self._free_slot()
                if tokens > 0 and self._limits.tokens_per_min is not None:
                    item = _per_minute("tokens", self._limits.tokens_per_min)
                    await self._storage.incr(item.key_for(self._key_id), item.get_expiry(), tokens)
        except _FAILURES as error:
            self._quota.failed(error)

    async def _check_tokens(self, limit: int) -> None:
        key = _per_minute("tokens", limit).key_for(self._key_id)
        used = await self._storage.get(key)
        self._tell("tokens", limit, used)
        if used >= limit:
            raise await self._used_up("tokens", limit, key)

    async def _count_request(self, limit: int) -> None:
        item = _per_minute("requests", limit)
        key = item.key_for(self._key_id)
        made = await self._storage.incr(key, item.get_expiry())
        self._tell("requests", limit, made)
        if made > limit:
            raise await self._used_up("requests", limit, key)

    async def _take_slot(self, total: int) -> None:
        slots = self._quota.slots(self._key_id)
        for slot in slots.to_try(total):
            if await self._storage.incr(self._slot_key(slot), self._quota.slot_s) == 1:
                self._slot, self._slot_ends = slot, time.monotonic() + self._quota.slot_s
                slots.held.add(slot)
                return
        text = f"This key may have {total} requests at once: wait for one to end, or ask for a key that may have more."
        raise RateLimited(text, retry_after_s=1)

    async def _free_slot(self) -> None:
        slot, self._slot = self._slot, None
        if slot is None:
            return
        slots = self._quota.slots(self._key_id)
        try:
            if time.monotonic() < self._slot_ends:  # later it may be another's
                await self._storage.clear(self._slot_key(slot))
        finally:
            slots.held.discard(slot)
            slots.freed.append(slot)

    def _slot_key(self, slot: int) -> str:
        return f"{SLOT}{self._key_id}/{slot}"

    def _tell(self, what: str, limit: int, used: int) -> None:
        self.headers[f"x-ratelimit-limit-{what}"] = str(limit)
        self.headers[f"x-ratelimit-remaining-{what}"] = str(max(0, limit - used))

    async def _used_up(self, what: str, limit: int, key: str) -> RateLimited:
        seconds = max(1, math.ceil(await self._storage.get_expiry(key) - time.time()))
        text = f"This key may use {limit} {what} a minute and has: wait {seconds} s, or ask for a key that may use more."
        error = RateLimited(text, retry_after_s=seconds)
        error.headers = self.headers
        return error


class _Slots:
    """The places for a key's concurrent requests, as far as this process knows of them."""

    def __init__(self) -> None:
        self.held: set[int] = set()
        self.freed: list[int] = []
        """Freed by this process, the last one last."""

    def to_try(self, total: int) -> Iterator[int]:
        """Those that may be free: the last freed first, for it likely is; the others from anywhere, as other processes do."""
        while self.freed:
            slot = self.freed.pop()
            if slot < total and slot not in self.held:
                yield slot
        start = random.randrange(total)
        for slot in (*range(start, total), *range(start)):
            if slot not in self.held:
                yield slot


def open_quota(settings: Settings) -> Quota:
    """Counts where the settings say. Raises `SettingsError` for an address that is none."""
    slot_s = settings.limits.request_timeout_s + _SLOT_MARGIN_S
    if settings.limits.redis_url is not None:
        from serving.redis_counters import open_redis_counters  # only who counts in Redis loads its client

        storage, close = open_redis_counters(settings.limits.redis_url.get_secret_value())
        return Quota(storage, slot_s, close)
    if settings.workers == 1:
        return Quota(MemoryStorage(wrap_exceptions=True), slot_s)
    counters = SqliteCounters(settings.run_dir / "limits.db")

    async def close_counters() -> None:
        counters.close()

    return Quota(counters, slot_s, close_counters)


def _per_minute(what: str, limit: int) -> RateLimitItemPerMinute:
    return RateLimitItemPerMinute(limit, namespace=what)
