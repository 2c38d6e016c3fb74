"""Shares of held-out votes that were foretold, with intervals that know that votes on one conversation are alike: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 4000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A share, or a difference of two, and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        return vars(self)


def right(margins: Sequence[float], signs: Sequence[int]) -> Floats:
    """(N,) 1 where a margin has its vote's sign, ½ where it is 0."""
    agree = np.asarray(margins, float) * np.asarray(signs, float)
    return np.where(agree == 0, 0.5, agree > 0).astype(float)


def intervals(ways: Mapping[str, Floats], groups: Sequence[str], seed: int = 0) -> dict[str, Interval]:
    """Each way's mean over votes, by the percentile bootstrap over groups (Efron & Tibshirani 1993, ch. 13).

    ways: (N,) of every vote, in one order; groups: (N,) names of what is drawn together.
    """
    names = {name: place for place, name in enumerate(sorted(set(groups)))}
    places = np.array([names[name] for name in groups])
    sizes = np.bincount(places, minlength=len(names))
    random = np.random.default_rng(seed)
    draws = random.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)  # (R, G)
    found = {}
    for way, values in ways.items():
        means = draws @ np.bincount(places, values, len(names)) / (draws @ sizes)
        low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        found[way] = Interval(float(values.mean()), float(low), float(high))
    return found


def by_fold(values: Floats, folds: Sequence[int]) -> list[float]:
    """The mean of each fold, in order."""
    which = np.asarray(folds)
    return [float(values[which == fold].mean()) for fold in sorted(set(folds))]


def table(ways: Mapping[str, Floats], groups: Sequence[str], folds: Sequence[int], best: str) -> dict[str, dict[str, Any]]:
    """For each way its share with interval and by fold; for all but ``best``, what the best one has over it, vote by vote."""
    shares = intervals(ways, groups)
    leads = intervals({way: ways[best] - values for way, values in ways.items() if way != best}, groups)
    return {
        way: {
            "accuracy": shares[way].as_json(),
            "folds": by_fold(values, folds),
            "lead": leads[way].as_json() if way in leads else None,
        }
        for way, values in ways.items()
    }
