"""Constant load of streamed answers, each of which must come whole; which words it says is kept (`ops.bench.numbers`).

Every stream is a client with one kept-alive connection that asks again as soon as its answer has ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace, TracebackType
from typing import Any, Self

import aiohttp
import orjson

_REQUEST_TIMEOUT_S = 120.0
_PAUSE_AFTER_FAILURE_S = 0.2
_KEPT_FAILURES = 20
"""How many are told in words; all are counted."""


class NotWhole(Exception):
    """What a client got is not an answer as it should be."""


@dataclass
class Tally:
    """What the clients saw. ``reconnects``: requests sent again because the server had closed an idle connection.

    Every HTTP client does that where not a byte has come back; nothing else is tried again.
    """

    requests: int = 0
    failed: int = 0
    reconnects: int = 0
    failures: list[str] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    """Completion id -> the word that its answer says; several, with spaces between, where it is mixed."""
    first: dict[str, float] = field(default_factory=dict)
    """Word -> Unix time at which somebody got it first."""
    last: dict[str, float] = field(default_factory=dict)
    """Word -> Unix time at which the last answer that says it ended."""

    def fail(self, what: str) -> None:
        self.failed += 1
        if len(self.failures) < _KEPT_FAILURES:
            self.failures.append(what)


@dataclass
class _Answer:
    """One streamed answer as it comes."""

    text: str = ""
    finish_reason: str | None = None
    completion_id: str = ""
    done: bool = False

    def see(self, line: bytes) -> str:
        """Take in one line of the stream; the text that it adds. Raises `NotWhole` for an error in mid-stream."""
        if not line.startswith(b"data:"):
            return ""
        data = line[5:].strip()
        if data == b"[DONE]":
            self.done = True
            return ""
        chunk: dict[str, Any] = orjson.loads(data)
        if "error" in chunk:
            raise NotWhole(f"an error in mid-stream: {chunk['error']}")
        self.completion_id = (chunk.get("plaudit") or {}).get("completion_id", self.completion_id)
        added = ""
        for choice in chunk.get("choices", ()):
            added += choice["delta"].get("content") or ""
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
        self.text += added
        return added

    def check(self) -> None:
        if not self.done or self.finish_reason is None:
            raise NotWhole(f"the stream ended early: [DONE] {self.done}, finish_reason {self.finish_reason}")
        if not self.completion_id:
            raise NotWhole("the stream named no completion id")
        if not self.text.split():
            raise NotWhole("the answer is empty")


class Streams:
    """``count`` clients of the gateway at ``url``, from entering to leaving; leaving lets each end its answer."""

    def __init__(self, url: str, key: str, count: int, *, tokens: int = 32, wall_clock: Callable[[], float] = time.time) -> None:
        """``tokens``: the length of every answer."""
        self.tally = Tally()
        self._url, self._key, self._count, self._tokens = f"{url}/v1/chat/completions", key, count, tokens
        self._wall_clock = wall_clock
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._heard = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._client(number), name=f"stream-{number}") for number in range(self._count)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping = True
        if kind is not None:
            for task in self._tasks:
                task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        for problem in ended:
            if isinstance(problem, Exception):
                self.tally.fail(f"a client broke: {problem!r}")

    async def heard(self, word: str, timeout_s: float) -> float:
        """The Unix time of a word's first token, once it has come. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s), self._heard:
            await self._heard.wait_for(lambda: word in self.tally.first)
        return self.tally.first[word]

    async def more(self, answers: int, timeout_s: float) -> None:
        """Wait until so many more requests have been answered or have failed. Raises TimeoutError."""
        goal = self.tally.requests + answers
        async with asyncio.timeout(timeout_s), self._heard:
            await self._heard.wait_for(lambda: self.tally.requests >= goal)

    async def _client(self, number: int) -> None:
        asked = 0
        connector = aiohttp.TCPConnector(limit=1, keepalive_timeout=60)
        timeout = aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT_S)
        headers = {"authorization": f"Bearer {self._key}"}
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers=headers, trace_configs=[_reuse_trace()]
        ) as session:
            while not self._stopping:
                asked += 1
                failed = await self._ask(session, number, asked)
                async with self._heard:
                    self.tally.requests += 1
                    self._heard.notify_all()
                if failed:
                    await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)

    async def _ask(self, session: aiohttp.ClientSession, number: int, asked: int) -> bool:
        """One request to its end; whether it failed."""
        question = f"What is {number} plus {asked}?"
        body = {
            "model": "default",
            "messages": [{"role": "user", "content": question}],
            "user": f"stream-{number}",
            "temperature": 0,
            "max_tokens": self._tokens,
            "stream": True,
        }
        answer = _Answer()
        try:
            async with await self._post(session, body) as response:
                if response.status != 200:
                    raise NotWhole(f"status {response.status}: {(await response.text())[:300]}")
                async for line in response.content:
                    if added := answer.see(line):
                        await self._note(added)
            answer.check()
        except (aiohttp.ClientError, OSError, TimeoutError, NotWhole, ValueError, KeyError) as error:
            self.tally.fail(f"{type(error).__name__}: {error} (after {len(answer.text)} characters)")
            return True
        words = " ".join(sorted(set(answer.text.split())))
        self.tally.said[answer.completion_id] = words
        self.tally.last[words] = self._wall_clock()
        return False

    async def _post(self, session: aiohttp.ClientSession, body: Mapping[str, Any]) -> aiohttp.ClientResponse:
        """The response's head. A kept connection that turns out to be closed is replaced by a new one, once."""
        used = SimpleNamespace(again=False)
        try:
            return await session.post(self._url, json=body, trace_request_ctx=used)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if not used.again:
                raise
            self.tally.reconnects += 1
        return await session.post(self._url, json=body)

    async def _note(self, added: str) -> None:
        """Remember when a word came first."""
        for word in added.split():
            if word not in self.tally.first:
                now = self._wall_clock()
                async with self._heard:
                    self.tally.first.setdefault(word, now)
                    self._heard.notify_all()


def _reuse_trace() -> aiohttp.TraceConfig:
    """Tells the request's context whether its connection had been used before."""

    async def reused(session: aiohttp.ClientSession, context: SimpleNamespace, params: Any) -> None:
        if context.trace_request_ctx is not None:
            context.trace_request_ctx.again = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(reused)
    return trace
