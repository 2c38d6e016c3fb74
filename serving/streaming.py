"""Streamed answers: server-sent events in OpenAI's chunk form, written straight to ASGI.

What the engine sent together is sent on together. The last chunk of all is held back until the tokens are known, and
tells about feedback. What fails before anything was sent is an ordinary error with its own status.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from starlette.types import Send

from serving.answering import Answer, Turn

_DELTA = ("role", "content", "tool_calls", "refusal")
_DONE = b"data: [DONE]\n\n"


class EventStream:
    """One turn's answers on their way to the client."""

    def __init__(self, turn: Turn, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self.started = False
        self._turn, self._send = turn, send
        self._headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            *headers,
        ]
        self._unfinished = len(turn.answers)
        self._last: bytes = b"{}"
        plan = turn.plan
        about = {
            "id": plan.completion_id,
            "object": "chat.completion.chunk",
            "created": int(plan.created),
            "model": plan.person.project,
        }
        self._head = b"data: " + orjson.dumps(about)[:-1] + b',"choices":['
        self._open_tail = b'],"usage":null' if turn.request.include_usage else b"]"
        self._tail = self._open_tail + b"}\n\n"

    async def run(self) -> None:
        """All answers, to the end. Raises `EngineError`; with several answers, the first to fail ends the others."""
        turn = self._turn
        if len(turn.answers) == 1:
            await turn.stream(turn.answers[0], self._take)
        else:
            await gather_or_cancel([turn.stream(answer, self._take) for answer in turn.answers])
        await self._write(self._end())
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def fail(self, error: dict[str, Any]) -> None:
        """End a stream that has begun with an error, as OpenAI's own does."""
        await self._write(b"data: " + orjson.dumps(error) + b"\n\n")
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _take(self, answer: Answer, chunks: list[dict[str, Any]]) -> None:
        events = [event for chunk in chunks for event in self._events(answer, chunk)]
        if events:
            await self._write(b"".join(events))

    def _events(self, answer: Answer, chunk: dict[str, Any]) -> list[bytes]:
        """A chunk of the engine's as events of ours: one for each of its choices, of which there is one at most."""
        events = []
        for made in chunk.get("choices") or ():
            delta = made.get("delta") or {}
            finish_reason = made.get("finish_reason")
            answer.see(delta, finish_reason)
            choice = _choice(answer.choice.position, delta, made.get("logprobs"), finish_reason)
            if finish_reason is not None:
                self._unfinished -= 1
                if self._unfinished == 0:
                    self._last = choice
                    continue
            events.append(self._head + choice + self._tail)
        if usage := chunk.get("usage"):
            answer.see_usage(usage)
        return events

    def _end(self) -> bytes:
        """The chunk held back, with the tokens in one of their own if they were asked for, and the stream's end."""
        about = b',"plaudit":' + orjson.dumps(self._turn.plaudit) + b"}\n\n"
        if not self._turn.request.include_usage:
            return self._head + self._last + self._open_tail + about + _DONE
        usage = self._head + b'],"usage":' + orjson.dumps(self._turn.usage)
        return self._head + self._last + self._tail + usage + about + _DONE

    async def _write(self, events: bytes) -> None:
        if not self.started:
            self.started = True
            await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await self._send({"type": "http.response.body", "body": events, "more_body": True})


def _choice(position: int, delta: dict[str, Any], logprobs: Any, finish_reason: str | None) -> bytes:
    """A choice in OpenAI's chunk form; nearly all of them are a piece of text and nothing else."""
    if logprobs is None and finish_reason is None and len(delta) == 1 and delta.get("content"):
        text = orjson.dumps(delta["content"])
        return b'{"index":%d,"delta":{"content":%b},"logprobs":null,"finish_reason":null}' % (position, text)
    told = {name: delta[name] for name in _DELTA if delta.get(name) is not None}
    return orjson.dumps({"index": position, "delta": told, "logprobs": logprobs, "finish_reason": finish_reason})


async def gather_or_cancel(work: list[Any]) -> list[Any]:
    """The results in order. The first error, or the caller's own end, cancels what is left and waits for it."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
