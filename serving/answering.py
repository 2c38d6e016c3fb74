"""One chat request from its plan to its answers: what both the plain and the streamed form share.

Every answer is a request of its own to an engine, under a lease that keeps its adapter loaded, and leaves one
completion event behind, whatever becomes of it. As long as nothing of it has been sent, an engine's failure is not the
client's: the answer is begun again on another engine, or on the same once it is back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from feedback.events import CompletionCreated, CompletionText, Event, Outcome, ToolCall
from feedback.receipts import Receipts
from ops import metrics
from ops.settings import SamplingSettings, Settings
from serving.capture import Capture
from serving.chat_request import ChatRequest, engine_body
from serving.engine import Engine, EngineAnswerInvalid, EngineError, EngineTimeout, EngineUnavailable
from serving.lookup import AnswerIndex
from serving.planning import Choice, Plan
from serving.replica import Replica
from serving.swap import AdapterManager

Take = Callable[["Answer", list[dict[str, Any]]], Awaitable[None]]
"""Is given an answer's chunks as they come."""

_PAUSES_S = (0.0, 0.0, 0.2, 0.8, 3.2)
"""Before each engine that may fail an answer, until the client is told; without a pause where it is another engine than those
that have failed. One that is being killed takes connections for a while yet, and breaks them off.
"""


@dataclass
class Answer:
    """One answer as it grows. ``outcome`` is "aborted" until something else is known."""

    choice: Choice
    body: dict[str, Any]
    started: float
    """By the monotonic clock, in seconds."""
    parts: list[str] = field(default_factory=list)
    tool_calls: dict[int, list[str]] = field(default_factory=dict)
    """Id, name and arguments of every call, by its index."""
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_token: float | None = None
    outcome: Outcome = "aborted"
    begun: bool = False
    """Something of it has gone to the client: it cannot be begun again."""
    refused: bool = False
    """The engine refused the request itself: nobody's answer failed."""

    @property
    def text(self) -> str:
        return "".join(self.parts)

    def see(self, message: Mapping[str, Any], finish_reason: str | None) -> None:
        """Take in a chunk's delta, or a whole answer's message."""
        if content := message.get("content"):
            self.parts.append(content)
        if calls := message.get("tool_calls"):
            for call in calls:
                self._see_call(call)
        if self.first_token is None and (content or calls):
            self.first_token = time.monotonic()
        if finish_reason is not None:
            self.finish_reason = finish_reason

    def see_usage(self, usage: Mapping[str, Any]) -> None:
        self.prompt_tokens = int(usage.get("prompt_tokens") or 0)
        self.completion_tokens = int(usage.get("completion_tokens") or 0)

    def _see_call(self, call: Mapping[str, Any]) -> None:
        """A call, or a part of one: id and name come once, arguments piece by piece."""
        known = self.tool_calls.setdefault(call.get("index", len(self.tool_calls)), ["", "", ""])
        function = call.get("function") or {}
        known[0] = call.get("id") or known[0]
        known[1] = function.get("name") or known[1]
        known[2] += function.get("arguments") or ""

    def failed(self, error: EngineError) -> None:
        self.outcome = "timeout" if isinstance(error, EngineTimeout) else "error"
        self.refused = error.status in (400, 422)


@dataclass(frozen=True)
class Rooms:
    """What answering needs of the rest of the gateway."""

    settings: Settings
    sampling: SamplingSettings
    """Where a request names none."""
    manager: AdapterManager
    capture: Capture
    receipts: Receipts
    index: AnswerIndex
    cache_salt: Callable[[str], str]
    """Of a project: parts its prefixes from other projects' in an engine's cache."""
    wall_clock: Callable[[], float] = time.time


class Turn:
    """The answers to one request, from the leases on their adapters to their events. `end` must be called, once."""

    def __init__(self, rooms: Rooms, request: ChatRequest, plan: Plan, deadline: float) -> None:
        """Takes the leases: no ``await`` may lie between choosing the adapters and this. ``deadline`` by the loop's clock."""
        self.request = request
        self.plan = plan
        self.deadline = deadline
        self._rooms = rooms
        receipt = plan.receipt(rooms.settings.limits.receipt_days)
        self._target, self._receipt_json = receipt.target, receipt.model_dump_json().encode()
        self.receipt = rooms.receipts.seal_json(self._receipt_json)
        now = time.monotonic()
        self.answers = [
            Answer(choice, engine_body(request, plan.sampling, choice.adapter, choice.position), now) for choice in plan.choices
        ]
        for choice in plan.choices:
            rooms.manager.demand.take(choice.adapter)

    @property
    def plaudit(self) -> dict[str, Any]:
        """What tells an application how to give feedback."""
        about: dict[str, Any] = {
            "completion_id": self.plan.completion_id,
            "completion_ids": [choice.completion_id for choice in self.plan.choices],
        }
        if self.plan.comparison_id is not None:
            about["comparison_id"] = self.plan.comparison_id
        return about | {"receipt": self.receipt}

    @property
    def usage(self) -> dict[str, int]:
        """Tokens of all answers; the prompt, which they share, counts once."""
        prompt = self.answers[0].prompt_tokens
        completion = sum(answer.completion_tokens for answer in self.answers)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    async def complete(self, answer: Answer) -> dict[str, Any]:
        """One answer as a whole: its choice in OpenAI's form. Raises `EngineError`."""
        replies: list[dict[str, Any]] = []

        async def ask(engine: Engine, body: dict[str, Any]) -> None:
            replies.append(await engine.complete(body))

        try:
            await self._attempt(answer, ask)
            made = _only_choice(replies[-1])
        except EngineError as error:
            answer.failed(error)
            raise
        answer.see(made["message"], made.get("finish_reason"))
        answer.see_usage(replies[-1].get("usage") or {})
        answer.outcome = "ok"
        message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
        if answer.tool_calls:
            message |= {"content": answer.text or None, "tool_calls": made["message"]["tool_calls"]}
        return {
            "index": answer.choice.position,
            "message": message,
            "logprobs": made.get("logprobs"),
            "finish_reason": answer.finish_reason,
        }

    async def stream(self, answer: Answer, take: Take) -> None:
        """Give ``take`` one answer's chunks, in the engine's form, as they come. Raises `EngineError`."""

        async def ask(engine: Engine, body: dict[str, Any]) -> None:
            async with aclosing(engine.stream(body)) as stream:
                async for chunks in stream:
                    answer.begun = True
                    await take(answer, chunks)

        try:
            await self._attempt(answer, ask)
            if answer.finish_reason is None:
                raise EngineAnswerInvalid("the engine's stream ended without a finish reason")
        except EngineError as error:
            answer.failed(error)
            raise
        answer.outcome = "ok"

    async def _attempt(self, answer: Answer, ask: Callable[[Engine, dict[str, Any]], Awaitable[None]]) -> None:
        """Ask an engine, and again, while nothing has come of it. Waits for an engine within the request's time."""
        patience = min(self.deadline, asyncio.get_running_loop().time() + self._rooms.settings.limits.engine_wait_s)
        manager, person, adapter = self._rooms.manager, self.plan.person, answer.choice.adapter
        failed: set[Replica] = set()
        again = False
        for tries_left, pause_s in zip(reversed(range(len(_PAUSES_S))), _PAUSES_S, strict=True):
            if again:
                await asyncio.sleep(min(pause_s, max(0.0, patience - asyncio.get_running_loop().time())))
            replica = await manager.replica_for(adapter, person.conversation, patience, failed)
            body = answer.body
            if replica.engine.shares_prefixes:
                body = {**body, "cache_salt": self._rooms.cache_salt(person.project)}
            replica.outstanding += 1
            try:
                await ask(replica.engine, body)
                return
            except EngineError as error:
                if not _is_engines(error):
                    raise
                replica.doubt(error)
                gone = isinstance(error, EngineUnavailable) or error.status == 404
                if answer.begun or not tries_left or (replica in failed and not gone):
                    raise
                again = replica in failed
                failed.add(replica)
                if not gone and manager.router.pick(adapter, person.conversation, failed) is replica:
                    raise  # it may be the request's own fault: one engine's opinion is enough where there is one
                metrics.RETRIES.inc()
            finally:
                replica.outstanding -= 1

    def timed_out(self) -> None:
        """The deadline has passed: unfinished answers are late, not given up by the client."""
        for answer in self.answers:
            if answer.outcome == "aborted":
                answer.outcome = "timeout"

    @property
    def charged_tokens(self) -> int:
        """Tokens for the key's limit. Where the engine told none, since the client left or all failed: about as many."""
        told = self.usage["total_tokens"]
        return told if self.answers[0].prompt_tokens else told + self.request.roughly_tokens

    def end(self) -> None:
        """Give the leases back, and tell the log and the metrics what became of every answer."""
        for choice in self.plan.choices:
            self._rooms.manager.demand.give_back(choice.adapter)
        now = time.monotonic()
        if all(answer.outcome == "ok" for answer in self.answers):
            self._rooms.index.add(self._target, self._receipt_json)
        if any(answer.refused for answer in self.answers):
            return
        for answer in self.answers:
            if not answer.completion_tokens:  # the engine has not told, or will not: a streamed piece is a token, nearly always
                answer.completion_tokens = max(len(answer.parts), len(answer.text) // 4)
            self._rooms.capture.put(self._event(answer, now))
            _count(answer, now)

    def _event(self, answer: Answer, now: float) -> Event:
        choice, person = answer.choice, self.plan.person
        messages = tuple(message.as_event() for message in self.request.messages)
        calls = tuple(ToolCall(id=id, name=name, arguments=arguments) for id, name, arguments in answer.tool_calls.values())
        data = CompletionCreated(
            completion_id=choice.completion_id,
            comparison_id=self.plan.comparison_id,
            position=choice.position,
            conversation=person.conversation,
            user=person.unit,
            text=CompletionText(messages=messages, answer=answer.text, tool_calls=calls),
            exposure=choice.exposure,
            sampling=self.plan.sampling,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            finish_reason=answer.finish_reason,
            outcome=answer.outcome,
            first_token_ms=None if answer.first_token is None else 1000 * (answer.first_token - answer.started),
            latency_ms=1000 * (now - answer.started),
        )
        return Event(
            id=choice.completion_id, time=self._rooms.wall_clock(), project=person.project, key=person.conversation, data=data
        )


def _is_engines(error: EngineError) -> bool:
    """Whether the engine is at fault, not the request: it is gone, has lost the adapter, or fails."""
    return error.status == 404 or (error.status >= 500 and not isinstance(error, EngineTimeout))


def _only_choice(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        made: Mapping[str, Any] = reply["choices"][0]
        made["message"].get("content")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise EngineAnswerInvalid("the engine's answer has no message") from error
    return made


def _count(answer: Answer, now: float) -> None:
    seen = _meters(answer.choice.exposure.arm, answer.outcome)
    seen.answers.inc()
    seen.seconds.observe(now - answer.started)
    seen.prompt_tokens.inc(answer.prompt_tokens)
    seen.completion_tokens.inc(answer.completion_tokens)
    if answer.first_token is not None:
        seen.first_token.observe(answer.first_token - answer.started)


@dataclass(frozen=True)
class _Meters:
    """The metrics of one arm's answers of one outcome: looked up by their labels once."""

    answers: Any
    seconds: Any
    prompt_tokens: Any
    completion_tokens: Any
    first_token: Any


@cache
def _meters(arm: str, outcome: str) -> _Meters:
    return _Meters(
        metrics.COMPLETIONS.labels(arm, outcome),
        metrics.CHAT_SECONDS.labels(arm),
        metrics.TOKENS.labels(arm, "prompt"),
        metrics.TOKENS.labels(arm, "completion"),
        metrics.FIRST_TOKEN_SECONDS.labels(arm),
    )
