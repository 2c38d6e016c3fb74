"""One engine as the gateway sees it: can it answer, and which of our adapters has it?"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from feedback.events import BASE
from ops import metrics
from serving.engine import Engine, EngineError
from serving.null_adapter import NULL

_log = structlog.get_logger(__name__)

_PROBES: Sequence[Sequence[Mapping[str, str]]] = (
    ({"role": "user", "content": "What is two plus two?"},),
    ({"role": "user", "content": "Say something kind about the weather."},),
)
"""An adapter must answer at least one of these differently from the base."""

_CLEAR_GAP = 0.1
"""Nats between two log-probabilities of one token; less may be the engine's own noise, in bfloat16 under load."""

_Answer = tuple[tuple[str, ...], tuple[float, ...]]


class AdapterServesBase(EngineError):
    """An adapter that the engine took but that changes nothing: usually misnamed modules (vLLM #34186)."""

    status = 500
    code = "adapter_has_no_effect"


class Replica:
    """Readiness is one generated token under a deadline, asked for every ``probe_interval_s`` and after any failure."""

    def __init__(
        self, engine: Engine, probe_timeout_s: float, null_adapter: Path | None = None, *, probe_interval_s: float = 5.0
    ) -> None:
        """``null_adapter``: folder of the adapter that stands for the base (`serving.null_adapter`), where one is needed."""
        self.engine = engine
        self._null_adapter = null_adapter
        self.ready = False
        self.adapters: set[str] = set()
        """Registered by us and probed, as far as we know."""
        self._probe_timeout_s, self._probe_interval_s = probe_timeout_s, probe_interval_s
        self._was_ready = False
        self._answered = 0.0

    async def look(self) -> bool:
        """Bring ``ready`` and ``adapters`` up to date. True when adapters we had registered are gone: it was restarted."""
        try:
            async with asyncio.timeout(self._probe_timeout_s):  # not wait_for, which may swallow a cancellation (Python 3.11)
                held = await self.engine.loaded()
            await self._stand_in_for_base(held)
        except (EngineError, TimeoutError):
            self._lost()
            return False
        restarted = bool(self.adapters - held)
        self.adapters &= held
        if not self.ready or time.monotonic() - self._answered > self._probe_interval_s:
            if not await self.engine.answers(BASE, self._probe_timeout_s):
                self._lost()
                return False
            if not self.ready and self._was_ready:
                metrics.ENGINE_RESTARTS.inc()
            self.ready = self._was_ready = True
            self._answered = time.monotonic()
        metrics.ENGINE_READY.set(self.ready)
        return restarted

    async def register(self, adapter: str, path: str) -> None:
        """Load ``adapter`` and probe that it answers, and not as the base does. Raises `EngineError`; then it is not held.

        One that the engine holds already, from a gateway before us or beside us, is only probed: ids name their content.
        """
        if adapter not in await self.engine.loaded():
            await self.engine.load_adapter(adapter, path)
        try:
            for messages in _PROBES:
                if await self._differs(adapter, messages):
                    self.adapters.add(adapter)
                    return
        except EngineError:
            await self._forget(adapter)
            raise
        await self._forget(adapter)
        raise AdapterServesBase(f"adapter {adapter} answers exactly as the base does; its module names may not fit the model")

    async def unregister(self, adapter: str) -> None:
        """Unload it; an engine that has not got it, or does not answer, has nothing to unload."""
        self.adapters.discard(adapter)
        try:
            await self.engine.unload_adapter(adapter)
        except EngineError as error:
            _log.info("unload_failed", adapter=adapter, error=error.message)

    async def _stand_in_for_base(self, held: set[str]) -> None:
        if self._null_adapter is None:
            return
        if NULL not in held:
            self.engine.base_name = BASE
            await self.engine.load_adapter(NULL, str(self._null_adapter))
        self.engine.base_name = NULL  # also where a gateway before us has loaded it

    async def _differs(self, adapter: str, messages: Sequence[Mapping[str, str]]) -> bool:
        theirs, base = await self.engine.probe(adapter, messages), await self.engine.probe(BASE, messages)
        gap = _gap(theirs, base)
        if gap == 0 or gap > _CLEAR_GAP:
            return gap > 0
        return gap > 2 * _gap(base, await self.engine.probe(BASE, messages))

    async def _forget(self, adapter: str) -> None:
        if adapter in await self.engine.loaded():
            await self.engine.unload_adapter(adapter)

    def _lost(self) -> None:
        if self.ready:
            _log.warning("engine_lost", engine=repr(self.engine))
        self.ready = False
        self.adapters.clear()
        metrics.ENGINE_READY.set(0)


def _gap(one: _Answer, other: _Answer) -> float:
    """The largest difference of a token's log-probability, in nats; infinity where the tokens differ."""
    if one[0] != other[0]:
        return math.inf
    return max((abs(a - b) for a, b in zip(one[1], other[1], strict=True)), default=0.0)
