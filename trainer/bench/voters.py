"""Simulated people judge answers made in this process; what they say is in the log as the gateway would have written it.

Beside answers of the champion some pairs have one of the base: so the votes also tell how far the champion has come.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from feedback.events import BASE, Event, Preference, Rating
from feedback.log import EventLog
from ops.domain.people import Person
from ops.domain.votes import FIRST, SECONDS_BETWEEN, Asking, Shown
from ops.settings import Settings
from trainer.generate import generate
from trainer.policy import AdapterModel


@dataclass(frozen=True)
class Shares:
    """Of the votes: pairs, the rest being thumbs. Of the pairs: those of the champion against the base."""

    pairs: float = 0.7
    against_base: float = 0.25


@dataclass(frozen=True)
class _Task:
    """Somebody's question, and who answers it: the names of one adapter, or of two in the order in which they are shown."""

    person: Person
    question: str
    adapters: tuple[str, ...]


class _Said(NamedTuple):
    text: str
    ended: bool


class Voters:
    """People in a shuffled order; each comes once before anyone comes again. The same ``seed``, the same questions."""

    def __init__(self, people: Sequence[Person], log: EventLog, settings: Settings, seed: int, shares: Shares) -> None:
        self._people, self._log, self._settings, self._shares = list(people), log, settings, shares
        self._random = random.Random(f"voters {seed}")
        self._queue: list[Person] = []
        self.votes, self._answers = 0, 0

    @property
    def now(self) -> float:
        """Unix time by the events' clock."""
        return FIRST + SECONDS_BETWEEN * self.votes

    def vote(self, model: AdapterModel, champion: str, adapter: str, count: int) -> None:
        """``count`` votes on answers of ``champion`` (its name in the model; ``adapter`` is its id) and of the base."""
        goal = self.votes + count
        while self.votes < goal:
            tasks = [self._task(champion) for _ in range(goal - self.votes)]
            events: list[Event] = []
            for task, answers in zip(tasks, self._answer(model, tasks), strict=True):
                ids = {champion: adapter, BASE: BASE}
                events += self._judged(task, answers, [ids[name] for name in task.adapters])
            self._log.append(events)

    def _task(self, champion: str) -> _Task:
        if not self._queue:
            self._queue = self._random.sample(self._people, len(self._people))
        person = self._queue.pop()
        question = person.ask(self._random)[-1]["content"]
        if self._random.random() >= self._shares.pairs:
            return _Task(person, question, (champion,))
        if champion == BASE or self._random.random() >= self._shares.against_base:
            return _Task(person, question, (champion, champion))
        return _Task(person, question, tuple(self._random.sample((champion, BASE), 2)))

    def _answer(self, model: AdapterModel, tasks: Sequence[_Task]) -> list[list[_Said]]:
        """The answers to each task; all of one adapter and one temperature are made at once."""
        said: list[list[_Said]] = [[_Said("", False)] * len(task.adapters) for task in tasks]
        places: dict[tuple[str, float], list[tuple[int, int]]] = {}
        sampling = self._settings.sampling
        for number, task in enumerate(tasks):
            warmth = sampling.temperature if len(task.adapters) == 1 else sampling.pair_temperature
            for side, name in enumerate(task.adapters):
                places.setdefault((name, warmth), []).append((number, side))
        for (name, warmth), asked in sorted(places.items()):
            prompts = [model.encode_prompt([{"role": "user", "content": tasks[number].question}]) for number, _ in asked]
            seed = self._random.randrange(2**31)
            made = generate(model, name, prompts, temperature=warmth, max_new_tokens=sampling.max_tokens, seed=seed)
            for (number, side), [answer] in zip(asked, made, strict=True):
                said[number][side] = _Said(model.decode_answer(answer.tokens), answer.ended)
        return said

    def _judged(self, task: _Task, answers: Sequence[_Said], adapters: Sequence[str]) -> Iterator[Event]:
        """The answers' events, and the vote's if the person bothers to vote."""
        comparison = f"cmp_{self._answers:06d}" if len(answers) == 2 else None
        asking = Asking(self._settings.project, task.person.name, task.question, self.now, comparison)
        shown = [self._shown(said, adapter) for said, adapter in zip(answers, adapters, strict=True)]
        judgement = _judgement(task, [said.text for said in answers])
        if judgement is not None:
            self.votes += 1
        yield from asking.events(shown, f"fb_{self.votes:06d}", judgement)

    def _shown(self, said: _Said, adapter: str) -> Shown:
        self._answers += 1
        return Shown(f"chatcmpl-{self._answers:06d}", adapter, said.text, "stop" if said.ended else "length")


def _judgement(task: _Task, answers: Sequence[str]) -> Rating | Preference | None:
    if len(answers) == 2:
        return Preference(value=task.person.prefer(task.question, *answers))
    thumb = task.person.thumb(task.question, answers[0])
    return None if thumb is None else Rating(value=thumb)
