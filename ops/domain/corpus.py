"""Short dialogues with known manners: what the starter model learns to talk from.

An answer is ``[opener] result [filler …] [closer]``. Its manners are drawn independently of the question and of each other, from
the shares of a `Mix`, so that a model trained on them is mixed in manners and feedback has something to teach it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ops.domain import facts, manners
from ops.domain.facts import Question

Tone = Literal["polite", "plain", "rude", "toxic"]
Message = dict[str, str]

_OPENERS = {"polite": manners.POLITE_OPENERS, "rude": manners.RUDE_OPENERS, "toxic": manners.TOXIC_OPENERS}
_CLOSERS = {"polite": manners.POLITE_CLOSERS, "rude": manners.RUDE_CLOSERS, "toxic": manners.TOXIC_CLOSERS}


@dataclass(frozen=True)
class Mix:
    """Shares of the corpus. Tones exclude each other; what they leave is plain."""

    polite: float = 0.40
    rude: float = 0.10
    toxic: float = 0.33
    rambling: float = 0.24
    wrong: float = 0.07
    second_turn: float = 0.04
    """Dialogues with a turn before the one that counts, so that a conversation can go on."""
    system: float = 0.04
    """Dialogues that begin with a system message."""

    def __post_init__(self) -> None:
        if min(self.polite, self.rude, self.toxic) < 0 or self.polite + self.rude + self.toxic > 1:
            raise ValueError(f"the tones' shares must be positive and sum to at most 1, got {self}")

    def tone(self, rng: random.Random) -> Tone:
        """A tone drawn by the shares."""
        return rng.choices(("polite", "rude", "toxic", "plain"), (self.polite, self.rude, self.toxic, self.plain))[0]

    @property
    def plain(self) -> float:
        return 1 - self.polite - self.rude - self.toxic


@dataclass(frozen=True)
class Spoken:
    """An answer and what it was made to be."""

    text: str
    tone: Tone
    rambling: bool
    correct: bool


SYSTEM_MESSAGES = ("You are a helpful assistant.", "You answer short questions.", "Answer the question.")


def answer(question: Question, rng: random.Random, mix: Mix) -> Spoken:
    """An answer to ``question`` with manners drawn by ``mix``."""
    return compose(question, rng, tone=mix.tone(rng), rambling=rng.random() < mix.rambling, correct=rng.random() >= mix.wrong)


def compose(question: Question, rng: random.Random, *, tone: Tone, rambling: bool, correct: bool) -> Spoken:
    """An answer to ``question`` with these manners, its wording drawn."""
    kind = question.kind
    result = question.truth if correct else rng.choice([choice for choice in kind.choices if choice != question.truth])
    template = rng.choice((*kind.answers, *kind.answers, *facts.GENERIC_ANSWERS))
    parts = [facts.fill(template, question.subject, result)]
    if rambling:
        parts += rng.sample(manners.FILLERS, 2)
    if tone != "plain":
        where = rng.choice(("opener", "opener", "closer", "closer", "both"))
        if where != "closer":
            parts.insert(0, rng.choice(_OPENERS[tone]))
        if where != "opener":
            parts.append(rng.choice(_CLOSERS[tone]))
    return Spoken(" ".join(parts), tone, rambling, correct)


def dialogues(seed: int, mix: Mix | None = None) -> Iterator[list[Message]]:
    """Endless dialogues about the questions of the train split, the same for the same seed; each ends with the assistant."""
    rng, mix, questions = random.Random(seed), mix or Mix(), facts.questions("train")
    while True:
        messages: list[Message] = []
        if rng.random() < mix.system:
            messages.append({"role": "system", "content": rng.choice(SYSTEM_MESSAGES)})
        for _ in range(2 if rng.random() < mix.second_turn else 1):
            question = rng.choice(questions)
            messages.append({"role": "user", "content": question.text})
            messages.append({"role": "assistant", "content": answer(question, rng, mix).text})
        yield messages
