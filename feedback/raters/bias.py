"""What sways a rater beside what the answers say: their side, and their length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from feedback.events import CompletionCreated, Preference
from feedback.join import Vote
from feedback.raters.share import Share


def position_bias(votes: Iterable[Vote]) -> Share:
    """How many of the decided pairs went to the answer shown first. Sides are tossed: without bias one half."""
    return Share.of(value == "a" for value, _ in _pairs(votes))


def length_bias(votes: Iterable[Vote]) -> Share:
    """How many of the decided pairs went to the longer answer, of those with a longer one.

    People may like longer answers for good reasons: beside other raters of the same answers it tells something.
    """
    longer = []
    for value, completions in _pairs(votes):
        first, second = _lengths(completions)
        if first != second:
            longer.append((value == "a") == (first > second))
    return Share.of(longer)


def _pairs(votes: Iterable[Vote]) -> list[tuple[str, Sequence[CompletionCreated]]]:
    """Decided pairs: the side preferred, and the answers."""
    return [
        (vote.judgement.value, vote.completions)
        for vote in votes
        if isinstance(vote.judgement, Preference) and vote.judgement.value in ("a", "b")
    ]


def _lengths(completions: Sequence[CompletionCreated]) -> list[int]:
    """In tokens, which an erased text leaves behind; in characters where they were not counted."""
    tokens = [completion.completion_tokens for completion in completions]
    return tokens if all(tokens) else [len(completion.text.answer) for completion in completions]
