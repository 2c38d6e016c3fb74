"""Streamed answers: server-sent events in OpenAI's chunk form, written straight to ASGI.

One task makes and sends them, so the deadline and the client's hanging up cancel all of it at once, down to the engine.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import structlog
from fastapi import Response
from starlette.types import Receive, Scope, Send

from serving.answering import Turn
from serving.connection import unless_gone
from serving.engine import EngineError
from serving.errors import ApiError, ClientGone, as_api_error, error_response

T = TypeVar("T")

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
_DONE = b"data: [DONE]\n\n"

_logger = structlog.get_logger(__name__)


class EventStream(Response):
    """A turn's answers as they are made. What fails before the first of them is an ordinary error with its own status."""

    def __init__(self, turn: Turn) -> None:
        super().__init__(media_type="text/event-stream")
        self._turn = turn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless_gone(receive, self._answer(scope, receive, send))
        except ClientGone:
            return
        finally:
            self._turn.end()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        try:
            async with asyncio.timeout_at(self._turn.deadline), aclosing(events(self._turn)) as stream:
                async for event in stream:
                    if not started:
                        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                        started = True
                    await send({"type": "http.response.body", "body": event, "more_body": True})
        except (EngineError, TimeoutError) as error:
            answer = self._failed(error)
            if not started:
                await error_response(answer)(scope, receive, send)
                return
            await send({"type": "http.response.body", "body": _event(answer.body), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _failed(self, error: Exception) -> ApiError:
        if not isinstance(error, EngineError):
            self._turn.timed_out()
        answer = as_api_error(error)
        if answer.status >= 500:
            _logger.warning("request_failed", code=answer.code, error=f"{type(error).__name__}: {error}")
        return answer


async def events(turn: Turn) -> AsyncGenerator[bytes, None]:
    """The stream's events. The last chunk of all, held back until the tokens are known, tells about feedback."""
    unfinished = len(turn.answers)
    last: dict[str, Any] = {}
    streams = [turn.chunks(answer) for answer in turn.answers]
    async with aclosing(merged(streams)) as choices:
        async for choice in choices:
            chunk = _chunk(turn, [choice])
            if choice["finish_reason"] is not None:
                unfinished -= 1
                if unfinished == 0:
                    last = chunk
                    continue
            yield _event(chunk)
    if turn.request.include_usage:
        yield _event(last)
        last = _chunk(turn, []) | {"usage": turn.usage}
    yield _event(last | {"plaudit": turn.plaudit})
    yield _DONE


async def merged(streams: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
    """The items of all streams as they come. Closing it, or an error in one of them, closes all."""
    if len(streams) == 1:
        async with aclosing(streams[0]) as only:
            async for item in only:
                yield item
        return
    waiting: dict[asyncio.Task[T], AsyncGenerator[T, None]] = {}

    def ask(stream: AsyncGenerator[T, None]) -> None:
        waiting[asyncio.ensure_future(_next(stream))] = stream

    try:
        for stream in streams:
            ask(stream)
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                stream = waiting.pop(task)
                try:
                    item = task.result()
                except StopAsyncIteration:
                    continue
                ask(stream)
                yield item
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for stream in streams:
            await stream.aclose()


async def _next(stream: AsyncGenerator[T, None]) -> T:
    return await anext(stream)


def _chunk(turn: Turn, choices: list[dict[str, Any]]) -> dict[str, Any]:
    chunk: dict[str, Any] = {
        "id": turn.plan.completion_id,
        "object": "chat.completion.chunk",
        "created": int(turn.plan.created),
        "model": turn.plan.person.project,
        "choices": choices,
    }
    return chunk | {"usage": None} if turn.request.include_usage else chunk


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
