"""``POST /v1/chat/completions``: the hot path, as an ASGI application of its own, from the request's bytes to its answer.

The gateway hands such requests here before any framework has looked at them (`serving.app`); all else about HTTP is
FastAPI's. The order is: who asks, what, whether they may; who answers; the answer, streamed or whole; what it used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from fastapi import Request
from starlette.types import Receive, Scope, Send

from feedback.ids import new_id
from ops import metrics
from ops.database import DatabaseUnavailable
from ops.registry import AdapterRefused
from serving.answering import Rooms, Turn
from serving.auth import Authenticator, require_project
from serving.chat_request import ChatRequest, check_caps, parse_chat, sampling_of
from serving.connection import WhileListening
from serving.engine import EngineError
from serving.errors import (
    ApiError,
    ClientGone,
    Forbidden,
    InvalidRequest,
    NotFound,
    Unavailable,
    as_api_error,
    error_response,
)
from serving.keys import Caller
from serving.limits import read_body
from serving.planning import Choice, Person, Plan, choose, choose_pinned, identify
from serving.quota import Quota
from serving.streaming import EventStream, gather_or_cancel

PATH = "/v1/chat/completions"
CONVERSATION_HEADER = "x-plaudit-conversation"
_LONGEST_CONVERSATION = 200

_Headers = list[tuple[bytes, bytes]]

_logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Chat:
    """``coin`` is uniform on [0, 1): it puts a duel's answers on their sides."""

    rooms: Rooms
    authenticator: Authenticator
    quota: Quota
    user_secret: bytes
    coin: Callable[[], float]
    check_annotator: Callable[[Caller, str, str | None], None]
    """Whether an annotator may chat in a project's conversation; raises `Forbidden`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = scope.setdefault("state", {})["request_id"] = new_id("req_")
        exchange = _Exchange(send, [(b"x-request-id", request_id.encode())])
        try:
            await self._answer(Request(scope), receive, exchange)
        except ClientGone:
            exchange.status = ClientGone.status
        except asyncio.CancelledError:  # the time for the last answers is over
            await exchange.fail(scope, receive, Unavailable("The server is being stopped: try again.", code="shutting_down"))
            raise
        except Exception as error:
            if not isinstance(error, ApiError | DatabaseUnavailable | EngineError | TimeoutError):
                _logger.exception("request_crashed", request_id=request_id)
            await exchange.fail(scope, receive, _told(error, request_id))
        finally:
            metrics.REQUESTS.labels(PATH, str(exchange.status)).inc()

    async def _answer(self, request: Request, receive: Receive, exchange: _Exchange) -> None:
        limits = self.rooms.settings.limits
        deadline = asyncio.get_running_loop().time() + limits.request_timeout_s
        caller = await self.authenticator.caller(request)
        body = parse_chat(await read_body(request.scope, receive, limits.max_body_bytes, limits.body_timeout_s))
        check_caps(body, limits)
        require_project(caller, body.model)
        if caller.role == "annotator":
            conversation = body.conversation or _conversation_of(request)
            await asyncio.to_thread(self.check_annotator, caller, body.model, conversation)
        entry = await self.quota.enter(caller)
        turn: Turn | None = None
        try:
            exchange.headers += [(name.encode(), value.encode()) for name, value in entry.headers.items()]
            async with WhileListening(receive), asyncio.timeout_at(deadline):
                turn = Turn(self.rooms, body, await self._plan(request, body, caller, deadline), deadline)
                await exchange.answer(turn)
        except TimeoutError:
            if turn is not None:
                turn.timed_out()
            raise
        finally:
            try:
                if turn is not None:
                    turn.end()
            finally:
                await entry.leave(0 if turn is None else turn.charged_tokens)

    async def _plan(self, request: Request, body: ChatRequest, caller: Caller, deadline: float) -> Plan:
        """Who answers. Waits for an engine if there is none; nothing is awaited after the choice."""
        in_header = _conversation_of(request)
        conversation = body.conversation or in_header
        first = next((m.content for m in body.messages if m.role == "user"), body.messages[0].content) or ""
        person = identify(self.user_secret, caller, body.model, body.user or None, conversation, first)
        choices = await self._choices(body, caller, person, deadline)
        comparison_id = new_id("cmp_") if body.compare else None
        return Plan(person, choices, comparison_id, sampling_of(body, self.rooms.sampling), created=self.rooms.wall_clock())

    async def _choices(self, body: ChatRequest, caller: Caller, person: Person, deadline: float) -> tuple[Choice, ...]:
        manager = self.rooms.manager
        patience = min(deadline, asyncio.get_running_loop().time() + self.rooms.settings.limits.engine_wait_s)
        if body.plaudit_adapter is not None:
            if caller.role != "operator":
                text = "'plaudit_adapter' is for a key of role 'operator': leave it out, the project decides who answers."
                raise Forbidden(text, param="plaudit_adapter")
            try:
                await manager.pin(person.project, body.plaudit_adapter, patience)
            except (LookupError, AdapterRefused) as error:
                raise NotFound(f"'plaudit_adapter': {error}", param="plaudit_adapter", code="adapter_not_found") from error
            return choose_pinned(body.plaudit_adapter, body.n)
        deployment = await manager.servable(person.project, patience)
        return choose(deployment, person.unit, n=body.n, compare=body.compare, live=manager.is_live, coin=self.coin)


class _Exchange:
    """What goes back to the client, and the status it was told."""

    def __init__(self, send: Send, headers: _Headers) -> None:
        self.status = 500
        self.headers = headers
        self._send = send
        self._stream: EventStream | None = None

    @property
    def streaming(self) -> bool:
        """A stream has begun: the status cannot be changed any more."""
        return self._stream is not None and self._stream.started

    async def answer(self, turn: Turn) -> None:
        """The turn's answers. Raises `EngineError` and TimeoutError."""
        headers = [*self.headers, (b"x-plaudit-receipt", turn.receipt.encode())]
        if turn.request.stream:
            self._stream = EventStream(turn, self._send, headers)
            await self._stream.run()
            self.status = 200
            return
        choices = await gather_or_cancel([turn.complete(answer) for answer in turn.answers])
        body = orjson.dumps(_completion(turn, choices))
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        self.status = 200
        await self._send({"type": "http.response.body", "body": body})

    async def fail(self, scope: Scope, receive: Receive, error: ApiError) -> None:
        """Tell the error: as the answer, or as the end of a stream that has begun; nothing when the answer is out."""
        if self.status == 200:
            return
        self.status = error.status
        if self._stream is not None and self.streaming:
            await self._stream.fail(error.body)
            return
        answer = error_response(error)
        answer.raw_headers.extend(self.headers)
        await answer(scope, receive, self._send)


def _completion(turn: Turn, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": turn.plan.completion_id,
        "object": "chat.completion",
        "created": int(turn.plan.created),
        "model": turn.plan.person.project,
        "choices": choices,
        "usage": turn.usage,
        "plaudit": turn.plaudit,
    }


def _told(error: Exception, request_id: str) -> ApiError:
    answer = as_api_error(error)
    if answer.status >= 500:
        _logger.warning("request_failed", request_id=request_id, code=answer.code, error=f"{type(error).__name__}: {error}")
    return answer


def _conversation_of(request: Request) -> str | None:
    conversation = request.headers.get(CONVERSATION_HEADER)
    if conversation is not None and not 1 <= len(conversation) <= _LONGEST_CONVERSATION:
        text = f"The header {CONVERSATION_HEADER} must have 1 to {_LONGEST_CONVERSATION} characters."
        raise InvalidRequest(text, param=CONVERSATION_HEADER)
    return conversation
