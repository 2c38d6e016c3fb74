"""The general domain's questions: every phrasing of every topic, some 860. Whole topics are held out, not only phrasings."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Literal

from ops.domain.general.topics import KINDS

Split = Literal["train", "held_out"]

_TRAIN_SHARE = 70
"""Per cent of the topics; nobody ever asks about the others."""


@dataclass(frozen=True)
class Question:
    """``about``: the stems of words by which an answer shows that it is about the topic."""

    text: str
    topic: str
    about: frozenset[str]

    @property
    def split(self) -> Split:
        bucket = int.from_bytes(hashlib.sha256(self.topic.encode()).digest()[:8]) % 100
        return "train" if bucket < _TRAIN_SHARE else "held_out"


@cache
def questions(split: Split | None = None) -> tuple[Question, ...]:
    """Every question, or every one of a split, in a fixed order."""
    if split is not None:
        return tuple(question for question in questions() if question.split == split)
    return tuple(
        Question(phrasing.replace("{x}", topic), topic, about)
        for kind in KINDS
        for topic, about in kind.topics.items()
        for phrasing in kind.questions
    )


@cache
def _by_text() -> dict[str, Question]:
    return {question.text: question for question in questions()}


def find(text: str) -> Question | None:
    """The question with this text, or None when the domain does not ask it."""
    return _by_text().get(text.strip())
