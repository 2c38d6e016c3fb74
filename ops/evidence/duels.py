"""Duels by betting: is the challenger preferred? Waudby-Smith & Ramdas 2020, arXiv:2010.09686.

A vote is X = 1 (challenger), 1/2 (tie) or 0 (champion). Against "the mean of X is at most m" capital grows as
K = prod(1 + lambda (X - m)). The bet is a mixture over constant lambda, uniform on [0, 1/(2m)]: the capital of a
mixture is itself that of a predictable lambda_t in that range, and depends on the counts only, not on their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

_POINTS = 20
_FRACTIONS = (np.arange(_POINTS) + 0.5) / (2 * _POINTS)
"""lambda * m of the mixture: midpoints of [0, 1/2]."""

Vote = Literal["win", "tie", "loss"]


@dataclass(frozen=True)
class Duels:
    """Votes on pairs, from one side's view."""

    wins: int = 0
    ties: int = 0
    losses: int = 0

    @property
    def n(self) -> int:
        return self.wins + self.ties + self.losses

    @property
    def rate(self) -> float:
        """Mean of X; 1/2 before the first vote."""
        return (self.wins + self.ties / 2) / self.n if self.n else 0.5

    def swap(self) -> Duels:
        """The other side's view."""
        return Duels(self.losses, self.ties, self.wins)


def log_above(duels: Duels, mean: float = 0.5) -> float:
    """Log capital against "X has mean <= ``mean``" (0 < mean < 1): large when the side wins more than that."""
    return float(log_capital(duels.wins, duels.ties, duels.losses, mean))


def log_below(duels: Duels, mean: float = 0.5) -> float:
    """Log capital against "X has mean >= ``mean``": large when the side wins less than that."""
    return log_above(duels.swap(), 1 - mean)


def log_capital(wins: ArrayLike, ties: ArrayLike, losses: ArrayLike, mean: float) -> NDArray[np.float64]:
    """`log_above` for arrays of counts of one shape, which is the result's."""
    if not 0 < mean < 1:
        raise ValueError(f"mean={mean} is not between 0 and 1")
    won, tied, lost = (np.asarray(counts)[..., None] for counts in (wins, ties, losses))
    growth = (
        won * np.log1p(_FRACTIONS * (1 / mean - 1))
        + tied * np.log1p(_FRACTIONS * (0.5 / mean - 1))
        + lost * np.log1p(-_FRACTIONS)
    )  # (..., 20)
    return np.asarray(logsumexp(growth, axis=-1) - np.log(_POINTS))
