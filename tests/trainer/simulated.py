"""Simulated people's votes on the starter model's own answers, and how much better an adapter answers by their taste."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from feedback.events import BASE, CompletionCreated, CompletionText, Exposure, Message, Preference, Rating, Target
from feedback.join import Vote
from feedback.log import Position
from ops.domain.people import Person, crowd
from trainer.evaluate import ask, compare
from trainer.generate import Answer, generate
from trainer.policy import AdapterModel


def encoded(model: AdapterModel, questions: Sequence[str]) -> list[list[int]]:
    return [model.encode_prompt([{"role": "user", "content": question}]) for question in questions]


def votes_on(model: AdapterModel, count: int, seed: int = 0) -> list[Vote]:
    """``count`` votes, two in three of them on a pair, on answers that the base gives to questions of the train split."""
    rng = random.Random(seed)
    people = crowd(24, seed=seed)
    questions = [rng.choice(people).ask(rng)[-1]["content"] for _ in range(2 * count)]
    said = generate(model, BASE, encoded(model, questions), n=2, temperature=0.7, max_new_tokens=64, seed=seed)
    made = [
        _vote(model, number, people[number % len(people)], question, answers)
        for number, (question, answers) in enumerate(zip(questions, said, strict=True))
    ]
    return [vote for vote in made if vote is not None][:count]


def _vote(model: AdapterModel, number: int, person: Person, question: str, answers: Sequence[Answer]) -> Vote | None:
    texts = [model.decode_answer(answer.tokens) for answer in answers]
    if number % 3:
        judgement = Preference(value=person.prefer(question, *texts))
    else:
        thumb = person.thumb(question, texts[0])
        if thumb is None:
            return None
        judgement, answers = Rating(value=thumb), answers[:1]
    completions = tuple(
        CompletionCreated(
            completion_id=f"c{number}-{side}",
            conversation=f"conversation-{number}",
            user=person.name,
            text=CompletionText(messages=(Message(role="user", content=question),), answer=text),
            exposure=Exposure(completion_id=f"c{number}-{side}", adapter=BASE),
            finish_reason="stop" if answer.ended else "length",
        )
        for side, (answer, text) in enumerate(zip(answers, texts, strict=False))
    )
    return Vote(
        feedback_id=f"fb-{number}",
        time=10.0 + number,
        project="default",
        key=f"conversation-{number}",
        rater=person.name,
        source="simulated",
        judgement=judgement,
        target=Target(completion_ids=tuple(c.completion_id for c in completions), comparison_id="cmp" if number % 3 else None),
        completions=completions,
        exposures=tuple(c.exposure for c in completions),
        positions=(Position("feedback", 0, number),),
    )


class Said(NamedTuple):
    """What an adapter says to held-out questions."""

    asked: list[str]
    answers: list[str]

    @classmethod
    def by(cls, model: AdapterModel, adapter: str, count: int) -> Said:
        asked = ask(count, seed=0)
        made = generate(model, adapter, encoded(model, asked), temperature=1.0, max_new_tokens=64, seed=1)
        return cls(asked, [model.decode_answer(answer.tokens) for [answer] in made])

    def over(self, other: Said) -> dict[str, float]:
        """The win rate by the people's taste, without its noise, and its 95 % interval."""
        return compare(self.asked, other.answers, self.answers)["win_rate"]
