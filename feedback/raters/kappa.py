"""One rater beside another, or beside the majority of the others: Cohen's kappa (1960, doi:10.1177/001316446002000104)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from feedback.raters.labels import Item, Label, grouped, latest
from feedback.raters.share import Share

FEWEST_OTHERS = 2
"""One other rater is no majority."""


@dataclass(frozen=True)
class WithMajority:
    """``kappa`` is None where it is not defined: nothing shared, or both always say the same one thing."""

    agreed: Share
    kappa: float | None


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """(observed - expected) / (1 - expected) agreement of two raters' values on the same items, in the same order."""
    n = len(first)
    if not n:
        return None
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    counts, others = Counter(first), Counter(second)
    expected = sum(counts[value] * others[value] for value in counts) / n**2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def majorities(labels: Iterable[Label], trust: Mapping[str, float] | None = None) -> dict[tuple[Item, str], float]:
    """For each item and rater what more of the *others* said than anything else, where `FEWEST_OTHERS` or more spoke.

    Others count with their ``trust`` (1 if none is given), so that newcomers do not outvote those who are known.
    An item whose others are divided has no majority.
    """
    found = {}
    for item, mine in grouped(latest(labels), lambda label: label.item).items():
        votes: Counter[float] = Counter()
        for label in mine:
            votes[label.value] += _trust(trust, label.rater)  # type: ignore[assignment]  # counts may be floats
        for label in mine:
            rest = Counter(votes)
            rest[label.value] -= _trust(trust, label.rater)  # type: ignore[assignment]
            top = rest.most_common(2)
            if len(mine) > FEWEST_OTHERS and (len(top) == 1 or top[0][1] > top[1][1] + 1e-9):
                found[item, label.rater] = top[0][0]
    return found


def _trust(trust: Mapping[str, float] | None, rater: str) -> float:
    return 1.0 if trust is None else trust.get(rater, 1.0)


def with_majority(labels: Iterable[Label], others: Mapping[tuple[Item, str], float]) -> WithMajority:
    """One rater's labels beside what `majorities` says of the others."""
    shared = [(label.value, others[label.item, label.rater]) for label in latest(labels) if (label.item, label.rater) in others]
    mine, theirs = [value for value, _ in shared], [value for _, value in shared]
    return WithMajority(Share.of(a == b for a, b in shared), cohen_kappa(mine, theirs))
