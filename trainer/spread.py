"""How well votes are foretold, on average, and how much that differs from vote to vote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance


@dataclass(frozen=True)
class Spread:
    """Of ``n`` votes' nats; the variance is that of one vote."""

    n: int
    mean: float
    variance: float

    @classmethod
    def of(cls, nats: Sequence[float]) -> Spread:
        return cls(len(nats), fmean(nats), variance(nats) if len(nats) > 1 else 0.0)
