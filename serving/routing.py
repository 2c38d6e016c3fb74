"""Which engine gets the next request: a conversation's own while that is not busier than the others, else the least busy."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from feedback.events import BASE
from serving.engine import EngineUnavailable
from serving.replica import Replica

T = TypeVar("T")

SLACK = 4
"""Requests that a conversation's own engine may have more than the least busy one: what its prefix cache is worth."""


class Router:
    """Over all replicas; only ready ones are chosen. `changed` wakes who waits for one."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.replicas = replicas
        self._news = asyncio.Event()

    @property
    def ready(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.ready]

    def is_live(self, adapter: str) -> bool:
        """Whether a ready engine has it."""
        return any(adapter == BASE or adapter in replica.adapters for replica in self.ready)

    def is_everywhere(self, adapter: str) -> bool:
        """Whether every ready engine has it that can be given it, and one has."""
        ready = self.ready
        return self.is_live(adapter) and all(adapter in replica.adapters or adapter in replica.failed for replica in ready)

    def pick(self, adapter: str, conversation: str, avoid: Collection[Replica] = ()) -> Replica:
        """The engine for a request, one of those to avoid only if there is no other. Raises `EngineUnavailable`."""
        able = [replica for replica in self.ready if adapter == BASE or adapter in replica.adapters]
        if not able:
            raise EngineUnavailable(f"no engine is ready that has {adapter}")
        able = [replica for replica in able if replica not in avoid] or able
        if len(able) == 1:
            return able[0]
        home = max(able, key=lambda replica: _weight(conversation, replica))
        idlest = min(able, key=lambda replica: replica.outstanding)
        return home if home.outstanding <= idlest.outstanding + SLACK else idlest

    def changed(self) -> None:
        """Something became ready, live or visible: whoever waits looks again."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def until(self, look: Callable[[], T], deadline: float) -> T:
        """What ``look`` returns once it raises no `EngineUnavailable`; its last one at ``deadline`` (by the loop's clock)."""
        while True:
            news = self._news
            try:
                return look()
            except EngineUnavailable as error:
                unavailable = error
            try:
                async with asyncio.timeout_at(deadline):
                    await news.wait()
            except TimeoutError:
                raise unavailable from None


def _weight(conversation: str, replica: Replica) -> bytes:
    """Rendezvous hashing: the heaviest is a conversation's own, and stays so while others come and go."""
    return hashlib.blake2b(f"{conversation}\0{replica.engine!r}".encode(), digest_size=8).digest()
