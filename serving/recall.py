"""What the database said last: believed for a second, and for longer while the database is away.

The event loop waits for no database. Lookups run in threads, one at a time for each question, and a request waits for
its answer no longer than it must: not at all while that is remembered and the database is known to be away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import structlog
from sqlalchemy.exc import SQLAlchemyError

from ops import metrics
from ops.database import DatabaseUnavailable

T = TypeVar("T")

FRESH_S = 1.0
"""How long an answer is believed without a further look: by then, what another process changed has its effect."""

HELD_S = 300.0
"""How long an answer is believed while the database is away: so long may a revoked key go on in the worst case."""

PATIENCE_S = 3.0
"""How long a request waits for the database before that is taken to be away: only the first ones do."""

_RETRY_S = 1.0
"""While the database is away, it is asked again so often."""

_THREADS = 4
_MOST = 4096

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Answer:
    value: Any
    at: float
    change: int


class Recall:
    """``changes()`` counts what this process itself has written: no answer from before its last change is fresh."""

    def __init__(
        self,
        changes: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
        *,
        patience_s: float = PATIENCE_S,
        most: int = _MOST,
    ) -> None:
        """``most``: answers that are remembered."""
        self.patience_s = patience_s
        self._changes, self._clock, self._most = changes, clock, most
        self._answers: dict[Hashable, _Answer] = {}
        self._asking: dict[Hashable, asyncio.Future[Any]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="database")
        self._heard = -HELD_S
        """When the database last answered anything."""
        self._away = False
        self._ask_again = 0.0
        metrics.DATABASE_UP.set(1)

    async def ask(self, question: Hashable, look: Callable[[], T | None]) -> T | None:
        """What ``look`` finds, or has found a moment ago; None is not remembered.

        Raises `DatabaseUnavailable` when the database is away and nothing of the last `HELD_S` seconds is known.
        """
        now = self._clock()
        known = self._answers.get(question)
        if known is not None and now < known.at + FRESH_S and known.change == self._changes():
            return cast(T, known.value)
        held = known is not None and now < known.at + HELD_S
        asking = self._look(question, look, now)
        if asking is not None and not (held and self._away):
            done, _ = await asyncio.wait((asking,), timeout=self.patience_s)
            if not done:
                self._lost("no answer in time")
            elif asking.exception() is None:
                return cast("T | None", asking.result())
            elif not isinstance(asking.exception(), DatabaseUnavailable | SQLAlchemyError):
                raise cast(BaseException, asking.exception())
        if known is not None and held:
            return cast(T, known.value)
        raise DatabaseUnavailable("the database does not answer")

    async def try_to_ask(self, question: Hashable, look: Callable[[], object]) -> None:
        """The same for who only wants to know whether the database answers; `trouble` says so then."""
        with suppress(DatabaseUnavailable):
            await self.ask(question, look)

    def trouble(self) -> tuple[list[str], list[str]]:
        """Why keys cannot be checked at all, and what of them goes on from memory; both empty while the database answers."""
        if not self._away:
            return [], []
        if self._clock() >= self._heard + HELD_S:
            return ["the database does not answer"], []
        return [], [
            f"the database does not answer: keys of the last {HELD_S / 60:.0f} minutes go on, others are refused",
            "answers to people not seen lately cannot be kept until the database is back: they wait in memory, unrated",
        ]

    def close(self) -> None:
        """Wait for no lookup: each ends by its own deadlines."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _look(self, question: Hashable, look: Callable[[], Any], now: float) -> asyncio.Future[Any] | None:
        """A lookup, perhaps one that is under way; None while the database is to be left alone."""
        if question in self._asking:
            return None if self._away else self._asking[question]
        if self._away and now < self._ask_again:
            return None
        self._ask_again = now + _RETRY_S
        change = self._changes()
        asking = asyncio.get_running_loop().run_in_executor(self._threads, look)
        self._asking[question] = asking
        asking.add_done_callback(lambda done: self._told(question, done, change))
        return asking

    def _told(self, question: Hashable, done: asyncio.Future[Any], change: int) -> None:
        del self._asking[question]
        if done.cancelled():
            return
        error = done.exception()
        if isinstance(error, DatabaseUnavailable | SQLAlchemyError):
            self._lost(str(error))
        elif error is None:
            self._keep(question, done.result(), change)

    def _keep(self, question: Hashable, value: Any, change: int) -> None:
        now = self._clock()
        self._answers.pop(question, None)
        if value is not None:
            if len(self._answers) >= self._most:
                del self._answers[next(iter(self._answers))]  # the one that was asked for longest ago
            self._answers[question] = _Answer(value, now, change)
        self._heard = now
        if self._away:
            self._away = False
            metrics.DATABASE_UP.set(1)
            _log.warning("database_back")

    def _lost(self, reason: str) -> None:
        if not self._away:
            self._away = True
            self._ask_again = self._clock() + _RETRY_S
            metrics.DATABASE_UP.set(0)
            _log.warning("database_away", error=reason)
