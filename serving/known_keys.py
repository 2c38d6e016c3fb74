"""Keys and projects as requests see them: out of memory where that is fresh, and never by waiting on the event loop."""

from __future__ import annotations

import time
from collections.abc import Callable

from serving.keys import Caller, KeyStore, digest_of
from serving.recall import Recall


class KnownKeys:
    """A store's keys; close this before the store. ``clock`` gives Unix seconds, ``monotonic`` others."""

    def __init__(
        self,
        store: KeyStore,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._clock = store, clock
        self.recall = Recall(lambda: store.changes, monotonic)

    async def check(self, secret: str) -> Caller | None:
        """Who holds this secret; None when it is unknown, expired or revoked.

        Raises `DatabaseUnavailable` for a secret that cannot be looked up and has not been a moment ago.
        """
        digest = digest_of(secret)
        found = await self.recall.ask(digest, lambda: self._store.holder(digest))
        if found is None:
            return None
        info, caller = found
        return caller if info.holds(self._clock()) else None

    async def projects(self) -> dict[str, float]:
        """As `KeyStore.projects`. Raises `DatabaseUnavailable`."""
        return await self.recall.ask("projects", self._store.projects) or {}

    async def origins(self) -> dict[str, tuple[str, ...]]:
        """As `KeyStore.origins`. Raises `DatabaseUnavailable`."""
        return await self.recall.ask("origins", self._store.origins) or {}

    async def reach(self) -> tuple[list[str], list[str]]:
        """What is wrong with the database, as `Recall.trouble`, after a look at it."""
        await self.recall.try_to_ask("projects", self._store.projects)
        return self.recall.trouble()

    def close(self) -> None:
        self.recall.close()
