"""Simulated people who use the public API as an application would: the stock ``openai`` SDK, nothing else."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import openai

Mode = Literal["taste", "random"]
_TIMEOUT_S = 120.0


class PersonLike(Protocol):
    """What the crowd asks of a person; see ``ops.domain.people``."""

    name: str

    def ask(self, rng: random.Random) -> list[dict[str, str]]: ...

    def thumb(self, question: str, answer: str) -> int | None: ...

    def prefer(self, question: str, a: str, b: str) -> str: ...


@dataclass
class Tally:
    """What the crowd has done and got, counted on its own side of the API."""

    requests: int = 0
    failed_requests: int = 0
    votes: int = 0
    feedback_acknowledged: int = 0
    failures: list[str] = field(default_factory=list)


class Crowd:
    """People in a shuffled order; each comes once before anyone comes again.

    ``pair_share`` of the votes compare two answers, the rest are thumbs; ``stream_share`` of single answers are streamed.
    """

    def __init__(
        self,
        people: Sequence[PersonLike],
        *,
        base_url: str,
        api_key: str,
        model: str = "default",
        seed: int = 0,
        pair_share: float = 0.7,
        stream_share: float = 0.5,
        max_tokens: int = 64,
    ) -> None:
        self._people = list(people)
        self._rng = random.Random(seed)
        self._client = openai.AsyncOpenAI(base_url=base_url, api_key=api_key, timeout=_TIMEOUT_S)
        self._model, self._max_tokens = model, max_tokens
        self._pair_share, self._stream_share = pair_share, stream_share
        self._queue: list[PersonLike] = []
        self._answered: bool | None = None
        """Whether anybody ever has; None: not known yet."""
        self.tally = Tally()

    async def close(self) -> None:
        await self._client.close()

    async def vote(self, votes: int, concurrency: int = 16, seconds: float = math.inf) -> None:
        """Gather ``votes`` acknowledged votes, ``concurrency`` people at a time; nobody begins another after ``seconds``.

        Gives up after as many failures, or at once where nobody answers.
        """
        goal, limit = self.tally.votes + votes, self.tally.failed_requests + max(20, votes)
        deadline, in_flight = time.monotonic() + seconds, 0

        def wanted() -> bool:
            missing = self.tally.votes + in_flight < goal and self.tally.failed_requests < limit
            return missing and self._answered is not False and time.monotonic() < deadline

        async def worker() -> None:
            nonlocal in_flight
            while wanted():
                in_flight += 1
                try:
                    await self._one_vote(self._next())
                finally:
                    in_flight -= 1

        await asyncio.gather(*(worker() for _ in range(concurrency)))

    async def chat(self, person: PersonLike | None = None) -> None:
        """One streamed answer, not voted on."""
        person = person or self._next()
        await self._answer(person, person.ask(self._rng), stream=True)

    def _next(self) -> PersonLike:
        if not self._queue:
            self._queue = self._rng.sample(self._people, len(self._people))
        return self._queue.pop()

    async def _one_vote(self, person: PersonLike) -> None:
        messages = person.ask(self._rng)
        question = messages[-1]["content"]
        if self._rng.random() < self._pair_share:
            reply = await self._pair(person, messages)
            if reply is not None:
                answers, plaudit = reply
                await self._tell(plaudit, {"type": "preference", "value": person.prefer(question, *answers)})
            return
        single = await self._answer(person, messages, stream=self._rng.random() < self._stream_share)
        if single is not None:
            value = person.thumb(question, single[0])
            if value is not None:
                await self._tell(single[1], {"type": "rating", "value": value})

    async def _pair(self, person: PersonLike, messages: list[dict[str, str]]) -> tuple[list[str], dict[str, Any]] | None:
        reply = await self._create(person, messages, n=2, extra_body={"compare": True})
        return None if reply is None else ([choice.message.content or "" for choice in reply.choices], reply.plaudit)

    async def _answer(
        self, person: PersonLike, messages: list[dict[str, str]], stream: bool
    ) -> tuple[str, dict[str, Any]] | None:
        if not stream:
            reply = await self._create(person, messages)
            return None if reply is None else (reply.choices[0].message.content or "", reply.plaudit)
        chunks = await self._create(person, messages, stream=True)
        return None if chunks is None else await self._collect(chunks)

    async def _collect(self, chunks: AsyncIterator[Any]) -> tuple[str, dict[str, Any]] | None:
        text, plaudit = "", None
        try:
            async for chunk in chunks:
                text += "".join(choice.delta.content or "" for choice in chunk.choices)
                plaudit = getattr(chunk, "plaudit", None) or plaudit
        except (openai.OpenAIError, OSError) as error:
            self._failed(error)
            return None
        if plaudit is None:
            self._failed(ValueError("a stream ended without its receipt"))
            return None
        return text, plaudit

    async def _create(self, person: PersonLike, messages: list[dict[str, str]], **extra: Any) -> Any:
        self.tally.requests += 1
        try:
            reply = await self._client.chat.completions.create(
                model=self._model,
                messages=messages,  # type: ignore[arg-type]
                user=person.name,
                max_tokens=self._max_tokens,
                **extra,
            )
        except openai.OpenAIError as error:
            if self._answered is None:
                self._answered = not isinstance(error, openai.APIConnectionError)
            self._failed(error)
            return None
        self._answered = True
        return reply

    async def _tell(self, plaudit: dict[str, Any], judgement: dict[str, Any]) -> None:
        self.tally.requests += 1
        body = judgement | {"receipt": plaudit["receipt"], "source": "simulated"}
        try:
            reply: Any = await self._client.post("/feedback", cast_to=object, body=body)
        except openai.OpenAIError as error:
            self._failed(error)
            return
        if reply["id"]:
            self.tally.votes += 1
            self.tally.feedback_acknowledged += 1

    def _failed(self, error: Exception) -> None:
        self.tally.failed_requests += 1
        self.tally.failures = [*self.tally.failures[-19:], f"{type(error).__name__}: {error}"]
