"""Counts of limits in Redis, for gateways on several machines."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from limits.aio.storage import RedisStorage, Storage
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ops.errors import SettingsError

CALL_S = 0.5
"""How long one call to Redis, or connecting to it, may take."""

_CONNECTIONS = 32


def open_redis_counters(url: str) -> tuple[Storage, Callable[[], Coroutine[Any, Any, None]]]:
    """The counts, and what closes them. Raises `SettingsError` for an address that is none."""
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=CALL_S,
            socket_connect_timeout=CALL_S,
            socket_timeout=CALL_S,
            retry=Retry(NoBackoff(), 1),  # a connection that Redis closed meanwhile
        )
    except ValueError as error:
        text = "limits.redis_url: use redis://host:6379, rediss://… or unix:///path. Set PLAUDIT_LIMITS__REDIS_URL."
        raise SettingsError(text) from error
    storage = RedisStorage(
        "async+redis://", wrap_exceptions=True, implementation="redispy", key_prefix="plaudit", connection_pool=pool
    )
    return storage, pool.disconnect
