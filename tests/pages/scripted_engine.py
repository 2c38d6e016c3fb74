"""An engine whose answers a test writes, piece by piece, and holds where it likes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from serving.engine import EngineUnavailable

HOLD_S = 20.0


class Gate(threading.Event):
    """In an answer's script: the stream waits here until the test opens it (`set`)."""

    async def opened(self) -> None:
        async with asyncio.timeout(HOLD_S):
            while not self.is_set():
                await asyncio.sleep(0.005)


class Break:
    """In an answer's script: the engine dies here."""


Script = Sequence[str | Gate | Break]


class ScriptedEngine:
    """`serving.engine.Engine` without a model: ``say(question, answer, …)`` gives the scripts for that question, in turn."""

    def __init__(self) -> None:
        self.base_name = "base"
        self.shares_prefixes = False
        self.requests: list[dict[str, Any]] = []
        self.aborted = threading.Event()
        self.down = False
        self._scripts: dict[str, list[Script]] = {}

    def say(self, question: str, *answers: Script) -> None:
        self._scripts[question] = list(answers)

    def _next(self, body: Mapping[str, Any]) -> Script:
        scripts = self._scripts[body["messages"][-1]["content"]]
        return scripts.pop(0) if len(scripts) > 1 else scripts[0]

    async def stream(self, body: Mapping[str, Any]) -> AsyncIterator[list[dict[str, Any]]]:
        if self.down:
            raise EngineUnavailable("nobody answers")
        self.requests.append(dict(body))
        base = {"id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 0, "model": body["model"]}
        finished = False

        def chunk(index: int, **choice: Any) -> dict[str, Any]:
            return {**base, "choices": [{"index": index, "delta": {}, "finish_reason": None, "logprobs": None, **choice}]}

        try:
            for index in range(body.get("n") or 1):
                yield [chunk(index, delta={"role": "assistant", "content": ""})]
                for piece in self._next(body):
                    if isinstance(piece, Gate):
                        await piece.opened()
                    elif isinstance(piece, Break):
                        raise EngineUnavailable("the connection broke")
                    else:
                        yield [chunk(index, delta={"content": piece})]
                yield [chunk(index, finish_reason="stop")]
            finished = True
            if (body.get("stream_options") or {}).get("include_usage"):
                yield [{**base, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}]
        finally:
            if not finished:
                self.aborted.set()

    async def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError("the page always streams")

    async def load_adapter(self, name: str, path: str) -> None:
        raise NotImplementedError("no adapters here")

    async def unload_adapter(self, name: str) -> None:
        raise NotImplementedError("no adapters here")

    async def loaded(self) -> set[str]:
        return set()

    async def answers(self, model: str, timeout_s: float) -> bool:
        return not self.down

    async def probe(self, model: str, messages: Sequence[Mapping[str, str]]) -> dict[bytes, float]:
        return {b"fine": -0.1}

    async def close(self) -> None:
        pass
