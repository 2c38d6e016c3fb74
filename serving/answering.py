"""One chat request from its plan to its answers: what both the plain and the streamed form share.

Every answer is a request of its own to the engine, under a lease that keeps its adapter loaded, and leaves one
completion event behind, whatever becomes of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from typing import Any

from feedback.events import CompletionCreated, CompletionText, Event, Message, Outcome
from feedback.ids import text_hash
from feedback.receipts import Receipt, Receipts
from ops import metrics
from ops.settings import SamplingSettings, Settings
from serving.capture import Capture
from serving.chat_request import ChatRequest, engine_body
from serving.engine import Engine, EngineAnswerInvalid, EngineError, EngineTimeout
from serving.lookup import AnswerIndex
from serving.planning import Choice, Plan
from serving.swap import AdapterManager


@dataclass
class Answer:
    """One answer as it grows. ``outcome`` is "aborted" until something else is known."""

    choice: Choice
    engine: Engine
    body: dict[str, Any]
    started: float
    """By the monotonic clock, in seconds."""
    parts: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_token: float | None = None
    outcome: Outcome = "aborted"
    refused: bool = False
    """The engine refused the request itself: nobody's answer failed."""

    @property
    def text(self) -> str:
        return "".join(self.parts)

    def see(self, message: Mapping[str, Any], finish_reason: str | None, usage: Mapping[str, Any] | None, now: float) -> None:
        """Take in a chunk's delta, or a whole answer's message."""
        content = message.get("content")
        if content:
            self.parts.append(content)
            if self.first_token is None:
                self.first_token = now
        self.finish_reason = finish_reason or self.finish_reason
        if usage:
            self.prompt_tokens = int(usage.get("prompt_tokens") or 0)
            self.completion_tokens = int(usage.get("completion_tokens") or 0)

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
    wall_clock: Callable[[], float] = time.time


class Turn:
    """The answers to one request, from the leases on their adapters to their events. `end` must be called, once."""

    def __init__(self, rooms: Rooms, request: ChatRequest, plan: Plan) -> None:
        """Takes the leases: no ``await`` may lie between choosing the adapters and this."""
        self.request = request
        self.plan = plan
        self.deadline = asyncio.get_running_loop().time() + rooms.settings.limits.request_timeout_s
        self._rooms = rooms
        self._receipt: Receipt = plan.receipt(rooms.settings.limits.receipt_days)
        self.receipt: str = rooms.receipts.seal(self._receipt)
        now = time.monotonic()
        self.answers: list[Answer] = []
        with ExitStack() as leases:
            for choice in plan.choices:
                leases.enter_context(rooms.manager.lease(choice.adapter))
                engine = rooms.manager.engine_for(choice.adapter, plan.person.conversation)
                body = engine_body(request, plan.sampling, choice.adapter, choice.position)
                self.answers.append(Answer(choice, engine, body, now))
            self._leases = leases.pop_all()

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
        try:
            reply = await answer.engine.complete(answer.body)
            made = _only_choice(reply)
        except EngineError as error:
            answer.failed(error)
            raise
        answer.see(made["message"], made.get("finish_reason"), reply.get("usage"), time.monotonic())
        answer.outcome = "ok"
        message = {"role": "assistant", "content": answer.text, "refusal": None}
        return {
            "index": answer.choice.position,
            "message": message,
            "logprobs": made.get("logprobs"),
            "finish_reason": answer.finish_reason,
        }

    async def chunks(self, answer: Answer) -> AsyncGenerator[dict[str, Any], None]:
        """One answer's choices in OpenAI's chunk form, as they come. Raises `EngineError`."""
        try:
            async with aclosing(answer.engine.stream(answer.body)) as stream:
                async for chunk in stream:
                    made: dict[str, Any] = next(iter(chunk.get("choices") or ()), {})
                    delta = made.get("delta") or {}
                    answer.see(delta, made.get("finish_reason"), chunk.get("usage"), time.monotonic())
                    if made:
                        yield {
                            "index": answer.choice.position,
                            "delta": {name: delta[name] for name in ("role", "content") if delta.get(name) is not None},
                            "logprobs": made.get("logprobs"),
                            "finish_reason": made.get("finish_reason"),
                        }
            if answer.finish_reason is None:
                raise EngineAnswerInvalid("the engine's stream ended without a finish reason")
        except EngineError as error:
            answer.failed(error)
            raise
        answer.outcome = "ok"

    def timed_out(self) -> None:
        """The deadline has passed: unfinished answers are late, not given up by the client."""
        for answer in self.answers:
            if answer.outcome == "aborted":
                answer.outcome = "timeout"

    def end(self) -> None:
        """Give the leases back, and tell the log and the metrics what became of every answer."""
        self._leases.close()
        now = time.monotonic()
        if all(answer.outcome == "ok" for answer in self.answers):
            self._rooms.index.add(self._receipt)
        if any(answer.refused for answer in self.answers):
            return
        for answer in self.answers:
            self._rooms.capture.put(self._event(answer, now))
            _count(answer, now)

    def _event(self, answer: Answer, now: float) -> Event:
        choice, person = answer.choice, self.plan.person
        messages = tuple(Message(role=m.role, content=m.content) for m in self.request.messages)
        data = CompletionCreated(
            completion_id=choice.completion_id,
            comparison_id=self.plan.comparison_id,
            position=choice.position,
            conversation=person.conversation,
            user=person.unit,
            text=CompletionText(messages=messages, answer=answer.text),
            exposure=choice.exposure,
            sampling=self.plan.sampling,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            finish_reason=answer.finish_reason,
            outcome=answer.outcome,
            first_token_ms=None if answer.first_token is None else 1000 * (answer.first_token - answer.started),
            latency_ms=1000 * (now - answer.started),
            prompt_hash=text_hash("\0".join(f"{message.role}\0{message.content}" for message in messages)),
            answer_hash=text_hash(answer.text),
        )
        return Event(
            id=choice.completion_id, time=self._rooms.wall_clock(), project=person.project, key=person.conversation, data=data
        )


def _only_choice(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        made: Mapping[str, Any] = reply["choices"][0]
        made["message"].get("content")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise EngineAnswerInvalid("the engine's answer has no message") from error
    return made


def _count(answer: Answer, now: float) -> None:
    arm = answer.choice.exposure.arm
    metrics.COMPLETIONS.labels(arm, answer.outcome).inc()
    metrics.CHAT_SECONDS.labels(arm).observe(now - answer.started)
    metrics.TOKENS.labels(arm, "prompt").inc(answer.prompt_tokens)
    metrics.TOKENS.labels(arm, "completion").inc(answer.completion_tokens)
    if answer.first_token is not None:
        metrics.FIRST_TOKEN_SECONDS.labels(arm).observe(answer.first_token - answer.started)
