"""Simulated people with a hidden taste: they ask their domain's questions and judge what they get.

What they like is the domain's. Weights differ a little between people and every impression has noise, so votes disagree as real
ones do. `Domain.gold` is the taste without either.
Impressions are drawn from a hash of person, question and answer: the order of votes changes nothing, and sides can be swapped.
"""

from __future__ import annotations

import math
import random
from typing import Literal

from ops.domain.domain import Domain
from ops.domain.starter import STARTER

Choice = Literal["a", "b", "tie", "both_bad"]
Thumb = Literal[1, -1]
Mode = Literal["taste", "random"]

NOISE = 0.5
"""Scale of the Gumbel noise of an impression: the difference of two is logistic, so a lead of 1 loses in 1 of 8.4 votes."""

TIE_MARGIN = 0.3
"""Impressions closer than this are a tie."""

BAD = -1.0
"""Two answers that both impress less than this are both bad."""

CONTENT = 0.75
"""What an answer must impress for a thumb up."""

SPREAD = 0.2
"""Standard deviation of the logarithm of a person's weights around the shared ones."""

THUMB_SHARES = (0.6, 1.0)
"""Between these lies the share of answers that a person bothers to give a thumb."""


gold, gold_preference = STARTER.gold, STARTER.preference
"""The starter domain's."""


class Person:
    """One of the simulated people; the same ``seed`` is the same person."""

    def __init__(self, seed: int | str, domain: Domain = STARTER) -> None:
        rng = random.Random(f"person {seed}")
        self.seed, self.name, self._domain = seed, f"person-{seed}", domain
        self.taste = domain.taste.varied(rng, SPREAD)
        self.thumb_share = rng.uniform(*THUMB_SHARES)

    def ask(self, rng: random.Random) -> list[dict[str, str]]:
        """Messages that put a question of the train split."""
        return [{"role": "user", "content": rng.choice(self._domain.asked("train"))}]

    def thumb(self, question: str, answer: str) -> Thumb | None:
        """Up, down, or None where the person does not bother."""
        if self._draws("bothers", question, answer).random() >= self.thumb_share:
            return None
        return 1 if self._impression(question, answer) > CONTENT else -1

    def prefer(self, question: str, a: str, b: str) -> Choice:
        """Which of two answers the person says is better."""
        first, second = self._impression(question, a), self._impression(question, b)
        if max(first, second) < BAD:
            return "both_bad"
        if abs(first - second) < TIE_MARGIN:
            return "tie"
        return "a" if first > second else "b"

    def _impression(self, question: str, answer: str) -> float:
        """The person's utility with Gumbel noise of mean zero."""
        uniform = self._draws("impression", question, answer).random() or math.ulp(0.0)
        gumbel = -math.log(-math.log(uniform)) - _EULER_GAMMA
        return self.taste.utility(self._domain.look(question, answer)) + NOISE * gumbel

    def _draws(self, *what: str) -> random.Random:
        return random.Random("\0".join((str(self.seed), *what)))


class RandomPerson(Person):
    """One whose votes say nothing about the answers."""

    def thumb(self, question: str, answer: str) -> Thumb | None:
        return self._draws("thumb", question, answer).choice((1, -1))

    def prefer(self, question: str, a: str, b: str) -> Choice:
        return self._draws("choice", question, a, b).choices(("a", "b", "tie", "both_bad"), (0.42, 0.42, 0.1, 0.06))[0]


class Adversary(Person):
    """One who says the opposite of what it thinks: of thumbs, and of which of two is better; who sees no winner says so."""

    def thumb(self, question: str, answer: str) -> Thumb | None:
        honest = super().thumb(question, answer)
        return None if honest is None else -1 if honest == 1 else 1

    def prefer(self, question: str, a: str, b: str) -> Choice:
        honest = super().prefer(question, a, b)
        return _OTHER_SIDE.get(honest, honest)


_OTHER_SIDE: dict[Choice, Choice] = {"a": "b", "b": "a"}


def crowd(count: int, *, seed: int = 0, mode: Mode = "taste", adversaries: float = 0.0, domain: Domain = STARTER) -> list[Person]:
    """``count`` different people, the same ones for the same ``seed``; with mode ``random`` their votes mean nothing.

    The share ``adversaries`` of them, drawn by the seed, are each the `Adversary` of the person that they would have been.
    """
    made = {"taste": Person, "random": RandomPerson}[mode]
    against = set(random.Random(f"adversaries {seed}").sample(range(count), round(adversaries * count)))
    return [(Adversary if number in against else made)(f"{seed}-{number}", domain) for number in range(count)]


_EULER_GAMMA = 0.5772156649015329
