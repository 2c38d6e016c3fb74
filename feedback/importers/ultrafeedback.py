"""openbmb/UltraFeedback: up to four answers, each rated in some aspects (Cui et al. 2023, arXiv:2310.01377)."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from typing import Any, Literal

from pydantic import Field

from feedback.events import Preference
from feedback.importers.record import Columns, Imported, RowRefused, Text, Verdict, columns, conversation

_UNRATED = "N/A"


class _Aspect(Columns):
    Rating: Text | int | float


class _Completion(Columns):
    model: Text = ""
    response: Text
    annotations: dict[Text, _Aspect | None]


class _Row(Columns):
    instruction: Text
    completions: list[_Completion] = Field(max_length=16)


def read(row: Any) -> Imported:
    """All pairs of the answers, by the mean of the aspects that were rated; equal means are a tie.

    Two answers of the same text are no pair. The order in which the judge saw the answers is not told.
    """
    said = columns(_Row, row)
    answers = tuple(completion.response.strip() for completion in said.completions)
    if len(answers) < 2:
        raise RowRefused("there are less than two answers")
    if not all(answers):
        raise RowRefused("an answer is empty")
    means = [_mean(completion) for completion in said.completions]
    pairs = [(i, j) for i, j in combinations(range(len(answers)), 2) if answers[i] != answers[j]]
    if not pairs:
        raise RowRefused("the answers are the same")
    return Imported(
        prompt=conversation([("user", said.instruction)]),
        answers=answers,
        verdicts=tuple(Verdict(pair, Preference(value=_better(*(means[side] for side in pair)))) for pair in pairs),
        sides_known=False,
        models=tuple(completion.model for completion in said.completions),
    )


def _mean(completion: _Completion) -> Fraction:
    ratings = [_rating(aspect) for aspect in completion.annotations.values() if aspect and aspect.Rating != _UNRATED]
    if not ratings:
        raise RowRefused("an answer is not rated")
    return sum(ratings, Fraction()) / len(ratings)


def _rating(aspect: _Aspect) -> Fraction:
    try:
        rating = Fraction(aspect.Rating)
    except (ValueError, ZeroDivisionError):
        rating = Fraction()
    if not 1 <= rating <= 5:
        raise RowRefused("a rating is not from 1 to 5", repr(aspect.Rating)[:40])
    return rating


def _better(first: Fraction, second: Fraction) -> Literal["a", "b", "tie"]:
    return "tie" if first == second else "a" if first > second else "b"
