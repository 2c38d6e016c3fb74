"""An engine in memory, for tests of who holds which adapter: it can be away, restart, and hold adapters without effect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

from serving.engine import EngineError, EngineUnavailable


class EngineTwin:
    def __init__(self) -> None:
        self.base_name = "base"
        self.shares_prefixes = False
        self.held: dict[str, str] = {}
        """Adapters by name, with their folders."""
        self.calls: list[tuple[str, str]] = []
        """("load" | "unload" | "answers" | "probe", name as the engine sees it)."""
        self.up = True
        self.deaf = False
        """Lists its models, generates nothing."""
        self.hangs: asyncio.Event | None = None
        """Where set, it lists its models only once this is."""
        self.slow_to_load: dict[str, asyncio.Event] = {}
        """Adapters that are loaded only once this is set."""
        self.without_effect: set[str] = set()
        self.noise: Iterator[float] = repeat(0.0)
        """What the base's log-probabilities are off by, probe by probe."""
        self.slight: dict[str, float] = {}
        """Adapters that say what the base says, at log-probabilities that are off by so much."""
        self.refuses: set[str] = set()
        self.breaks_at_load: set[str] = set()
        """Adapters over whose loading it dies."""

    def restart(self) -> None:
        self.held.clear()
        self.up = True

    def count(self, call: str, name: str) -> int:
        return self.calls.count((call, name))

    async def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def stream(self, body: Mapping[str, Any]) -> AsyncIterator[list[dict[str, Any]]]:
        raise NotImplementedError

    async def load_adapter(self, name: str, path: str) -> None:
        self._answer("load", name)
        if name in self.slow_to_load:
            await self.slow_to_load[name].wait()
        if name in self.breaks_at_load:
            self.deaf = True
            raise EngineError("EngineCore encountered an issue", status=500)
        if name in self.refuses or name in self.held:
            raise EngineError(f"cannot load {name}", status=400)
        self.held[name] = path

    async def unload_adapter(self, name: str) -> None:
        self._answer("unload", name)
        if self.held.pop(name, None) is None:
            raise EngineError(f"{name} is not loaded", status=404)

    async def loaded(self) -> set[str]:
        if self.hangs is not None:
            await self.hangs.wait()
        self._answer("loaded", "")
        return set(self.held)

    async def answers(self, model: str, timeout_s: float) -> bool:
        self.calls.append(("answers", self._name(model)))
        return self.up and not self.deaf and self._knows(model)

    async def probe(self, model: str, messages: Sequence[Mapping[str, str]]) -> dict[bytes, float]:
        self._answer("probe", self._name(model))
        if self.deaf or not self._knows(model):
            raise EngineError(f"no answer from {model}", status=500)
        if model != "base" and model not in self.without_effect | self.slight.keys():
            return {model.encode(): -1.0, messages[-1]["content"].encode(): -2.0}
        off = next(self.noise) if model == "base" else self.slight.get(model, 0.0)
        return {b"Hello": -1.0 + off, b"Hi": -2.0}

    async def close(self) -> None:
        return

    def _name(self, model: str) -> str:
        return self.base_name if model == "base" else model

    def _knows(self, model: str) -> bool:
        return self._name(model) == "base" or self._name(model) in self.held

    def _answer(self, call: str, name: str) -> None:
        self.calls.append((call, name))
        if not self.up:
            raise EngineUnavailable("nobody is there")
