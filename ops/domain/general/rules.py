"""What an answer to a general question is, read off its text: does it say something, about what was asked, and come to an end?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ops.domain.general import questions
from ops.domain.general.words import content_stems, sentences, words


@dataclass(frozen=True)
class Attributes:
    """What an answer is. An empty one is never short or complete: few words that say nothing please nobody."""

    on_topic: bool
    """It has a word of the topic's, or one that goes with it."""
    complete: bool
    """It says something, and its last sentence has come to an end."""
    short: bool
    """It says something in at most `SHORT` words."""
    wordy: float
    """How many times `SHORT` words it has beyond `SHORT`, at most `WORDIEST`: whoever stops reading there minds no more."""
    repeating: bool
    """It says the same `RUN` words, or the same sentence, twice."""
    empty: bool
    """Beside the question's own words it has fewer than `SAYS` that mean something."""


SHORT = 20
"""Words."""

WORDIEST = 3.0

RUN = 5
"""Words in a row."""

SAYS = 3
"""Different words beside the question's own, without those that every text has."""

_ENDS = (".", "!", "?")
_AFTER_THE_END = "\"')]*_ \n"


def attributes(question: str, answer: str) -> Attributes:
    """What ``answer`` is, said to ``question``. One that the domain does not ask is its own topic."""
    said, asked = content_stems(answer), questions.find(question)
    about = content_stems(question) if asked is None else asked.about
    empty = len(said - content_stems(question)) < SAYS
    length = len(answer.split())
    return Attributes(
        on_topic=not said.isdisjoint(about),
        complete=not empty and answer.rstrip(_AFTER_THE_END).endswith(_ENDS),
        short=not empty and length <= SHORT,
        wordy=min(WORDIEST, max(0, length - SHORT) / SHORT),
        repeating=_repeats(answer),
        empty=empty,
    )


def _repeats(answer: str) -> bool:
    said = words(answer)
    runs = Counter(tuple(said[start : start + RUN]) for start in range(len(said) - RUN + 1))
    whole = Counter(sentence.lower() for sentence in sentences(answer))
    return max([*runs.values(), *whole.values()], default=0) > 1
