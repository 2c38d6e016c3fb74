"""``POST /v1/chat/completions``: OpenAI's route, with comparisons and receipts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from feedback.ids import new_id
from serving.answering import Rooms, Turn
from serving.auth import Authenticator, require_project
from serving.chat_request import ChatRequest, check_caps, sampling_of
from serving.connection import unless_gone
from serving.errors import InvalidRequest
from serving.keys import Caller
from serving.planning import Plan, choose, identify
from serving.streaming import EventStream
from serving.validation import read

CONVERSATION_HEADER = "x-plaudit-conversation"
_LONGEST_CONVERSATION = 200


def router(rooms: Rooms, authenticator: Authenticator, user_secret: bytes, coin: Callable[[], float]) -> APIRouter:
    routes = APIRouter()

    @routes.post("/v1/chat/completions")
    async def create_chat_completion(request: Request) -> Response:
        caller = authenticator.chatter(request)
        body = await read(ChatRequest, request)
        check_caps(body, rooms.settings.limits)
        require_project(caller, body.model)
        turn = Turn(rooms, body, _plan(request, body, caller))
        if body.stream:
            return EventStream(turn)
        try:
            return JSONResponse(await _completion(request, turn), headers={"x-plaudit-receipt": turn.receipt})
        finally:
            turn.end()

    def _plan(request: Request, body: ChatRequest, caller: Caller) -> Plan:
        first = next((m.content for m in body.messages if m.role == "user"), body.messages[0].content)
        person = identify(user_secret, caller, body.model, body.user, body.conversation or _conversation_of(request), first)
        deployment = rooms.manager.deployment(body.model)
        choices = choose(deployment, person.unit, n=body.n, compare=body.compare, live=rooms.manager.is_live, coin=coin)
        comparison_id = new_id("cmp_") if body.compare else None
        sampling = sampling_of(body, rooms.sampling)
        return Plan(person, choices, comparison_id, sampling, created=rooms.wall_clock())

    return routes


async def _completion(request: Request, turn: Turn) -> dict[str, Any]:
    """The answer's body. Raises `EngineError`, `TimeoutError` at the deadline, `ClientGone`."""
    try:
        async with asyncio.timeout_at(turn.deadline):
            choices = await unless_gone(request.receive, _all_choices(turn))
    except TimeoutError:
        turn.timed_out()
        raise
    return {
        "id": turn.plan.completion_id,
        "object": "chat.completion",
        "created": int(turn.plan.created),
        "model": turn.plan.person.project,
        "choices": choices,
        "usage": turn.usage,
        "plaudit": turn.plaudit,
    }


async def _all_choices(turn: Turn) -> list[dict[str, Any]]:
    """Every answer, in display order; the others are given up when one fails."""
    tasks = [asyncio.ensure_future(turn.complete(answer)) for answer in turn.answers]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _conversation_of(request: Request) -> str | None:
    conversation = request.headers.get(CONVERSATION_HEADER)
    if conversation is not None and not 1 <= len(conversation) <= _LONGEST_CONVERSATION:
        text = f"The header {CONVERSATION_HEADER} must have 1 to {_LONGEST_CONVERSATION} characters."
        raise InvalidRequest(text, param=CONVERSATION_HEADER)
    return conversation
