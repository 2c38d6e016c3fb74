"""One engine as the gateway sees it: can it answer, what is it doing, and which of our adapters has it?"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from feedback.events import BASE
from ops import metrics
from serving.engine import Engine, EngineError, EngineUnavailable
from serving.null_adapter import NULL

_log = structlog.get_logger(__name__)

_PROBES: Sequence[Sequence[Mapping[str, str]]] = (
    ({"role": "user", "content": "What is two plus two?"},),
    ({"role": "user", "content": "Say something kind about the weather."},),
    ({"role": "user", "content": "Hello"},),
)
"""An adapter must weigh the first tokens of its answer to at least one of these otherwise than the base does."""

_CLEAR_GAP = 0.1
"""Nats between two log-probabilities of one token; less may be the engine's own noise, in bfloat16 under load."""

_CANNOT = (400, 404, 405, 501)
"""What an engine answers that runs where our folder is not, or without LoRA."""

_Answer = dict[bytes, float]


class AdapterServesBase(EngineError):
    """An adapter that the engine took but that changes nothing: usually misnamed modules (vLLM #34186)."""

    status = 500
    code = "adapter_has_no_effect"


class Replica:
    """``awake``: it generated a token within the last ``probe_interval_s``. ``ready``: and it has what is served.

    Only a ready replica gets requests: one that comes back is given what is live first. What it cannot be given
    (``failed``) it goes without.
    """

    def __init__(
        self, engine: Engine, probe_timeout_s: float, null_adapter: Path | None = None, *, probe_interval_s: float = 5.0
    ) -> None:
        """``null_adapter``: folder of the adapter that stands for the base (`serving.null_adapter`), where one is needed."""
        self.engine = engine
        self._null_adapter = null_adapter
        self.awake = False
        self.ready = False
        self.outstanding = 0
        """Requests that it is answering for us."""
        self.trouble = "not asked yet"
        """Why it is not awake, in words fit for anybody."""
        self.adapters: set[str] = set()
        """Registered and probed by us, as far as we know."""
        self.others: set[str] = set()
        """What else it holds."""
        self.failed: dict[str, float] = {}
        """Adapters that it could not be given again, and when (monotonic seconds) to try once more."""
        self._probe_timeout_s, self._probe_interval_s = probe_timeout_s, probe_interval_s
        self._was_awake = False
        self._told = ""
        self._answered = 0.0
        self._base_answers: dict[int, _Answer] = {}

    def __repr__(self) -> str:
        return f"Replica({self.engine!r})"

    async def look(self) -> None:
        """Bring ``awake``, ``adapters`` and ``others`` up to date."""
        try:
            async with asyncio.timeout(self._probe_timeout_s):  # not wait_for, which may swallow a cancellation (Python 3.11)
                held = await self.engine.loaded()
                await self._stand_in_for_base(held)
        except (EngineError, TimeoutError) as error:
            self.trouble = _trouble(error)
            self.lost(str(error))
            return
        if self.adapters and self.adapters.isdisjoint(held):
            self._forget_all()
        self.adapters &= held
        self.others = held - self.adapters - {NULL}
        if not self.awake or time.monotonic() - self._answered > self._probe_interval_s:
            if not await self.engine.answers(BASE, self._probe_timeout_s):
                self.trouble = "generates nothing"
                self.lost("it generates nothing")
                return
            if self._was_awake and not self.awake:
                metrics.ENGINE_RESTARTS.inc()
            self.awake = self._was_awake = True
            self._answered = time.monotonic()

    def doubt(self, error: EngineError) -> None:
        """A request failed here: look before the next one if it is gone or has lost its adapters, else probe it soon."""
        self._answered = 0.0
        if error.status == 404 or (isinstance(error, EngineUnavailable) and error.refused):
            self.lost(error.message)

    def lost(self, why: str) -> None:
        """It cannot answer, for all we know."""
        if self.awake or why != self._told:
            _log.warning("engine_lost", engine=repr(self.engine), why=why)
        self._told = why
        self.awake = self.ready = False
        self._forget_all()

    async def register(self, adapter: str, path: str) -> None:
        """Load ``adapter`` and probe that it answers, and not as the base does. Raises `EngineError`; then it is not held.

        One that the engine holds already, from a gateway before us or beside us, is only probed: ids name their content.
        """
        if adapter not in self.others:
            await self._load(adapter, path)
        try:
            differs = await asyncio.gather(*(self._differs(adapter, number) for number in range(len(_PROBES))))
        except EngineError:
            await self._drop(adapter)
            raise
        if not any(differs):
            await self._drop(adapter)
            raise AdapterServesBase(f"adapter {adapter} answers exactly as the base does; its module names may not fit the model")
        self.adapters.add(adapter)
        self.others.discard(adapter)

    async def unregister(self, adapter: str) -> None:
        """Unload it; an engine that has not got it, or does not answer, has nothing to unload."""
        self.adapters.discard(adapter)
        self.others.discard(adapter)
        try:
            await self.engine.unload_adapter(adapter)
        except EngineError as error:
            _log.info("unload_failed", adapter=adapter, error=error.message)

    async def _load(self, adapter: str, path: str) -> None:
        """Load it, or find that another gateway has done so meanwhile."""
        try:
            await self.engine.load_adapter(adapter, path)
        except EngineUnavailable:
            raise
        except EngineError:
            if adapter not in await self.engine.loaded():
                raise

    async def _stand_in_for_base(self, held: set[str]) -> None:
        if self._null_adapter is None:
            return
        if NULL not in held:
            self.engine.base_name = BASE
            try:
                await self._load(NULL, str(self._null_adapter))
            except EngineError as error:
                if error.status not in _CANNOT:
                    raise
                _log.warning("base_served_plainly", engine=repr(self.engine), reason=error.message)
                self._null_adapter = None
                return
        self.engine.base_name = NULL  # also where a gateway before us has loaded it

    async def _differs(self, adapter: str, number: int) -> bool:
        """Whether the adapter's answer to a probe is not the base's, by more than the base's differ among themselves."""
        messages = _PROBES[number]
        theirs, base = await asyncio.gather(self.engine.probe(adapter, messages), self._base_answer(number))
        gap = _gap(theirs, base)
        if gap == 0 or gap > _CLEAR_GAP:
            return gap > 0
        return gap > 2 * _gap(base, await self.engine.probe(BASE, messages))

    async def _base_answer(self, number: int) -> _Answer:
        """It does not change while the engine lives."""
        if number not in self._base_answers:
            self._base_answers[number] = await self.engine.probe(BASE, _PROBES[number])
        return self._base_answers[number]

    async def _drop(self, adapter: str) -> None:
        if adapter in await self.engine.loaded():
            await self.engine.unload_adapter(adapter)

    def _forget_all(self) -> None:
        """It has been started again, perhaps with another base."""
        self.adapters.clear()
        self.failed.clear()
        self._base_answers.clear()


def _trouble(error: Exception) -> str:
    if isinstance(error, EngineUnavailable):
        return "nobody listens there" if error.refused else "the connection broke"
    return f"answers {error.status}" if isinstance(error, EngineError) and error.status != 504 else "no answer in time"


def _gap(one: _Answer, other: _Answer) -> float:
    """The largest difference of a token's log-probability, in nats; infinity where hardly a token is likely in both."""
    both = one.keys() & other.keys()
    if 2 * len(both) < max(len(one), len(other)):
        return math.inf
    return max((abs(one[token] - other[token]) for token in both), default=0.0)
