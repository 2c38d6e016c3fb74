"""Intervals: anytime-valid ones for what is watched while it runs, Wilson's for a sample of fixed size."""

from __future__ import annotations

from math import log, sqrt

from scipy.optimize import brentq
from scipy.special import ndtri

from ops.evidence.duels import Duels, log_above

_TINY = 1e-12


def duel_interval(duels: Duels, alpha: float = 0.05) -> tuple[float, float]:
    """Confidence sequence for a duel's mean: all means against which neither bet has won 2/alpha.

    It holds at all times at once with probability 1 - alpha (Waudby-Smith & Ramdas, arXiv:2010.09686, section 4).
    """
    return _lower(duels, alpha / 2), 1 - _lower(duels.swap(), alpha / 2)


def _lower(duels: Duels, alpha: float) -> float:
    """Where capital, which falls as the mean rises, crosses 1/alpha."""
    if duels.wins + duels.ties == 0:
        return 0.0
    return float(brentq(lambda mean: log_above(duels, mean) - log(1 / alpha), _TINY, 1 - _TINY, xtol=1e-9))


def wilson(successes: float, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """Wilson's score interval for a share of ``n`` draws, n fixed beforehand; (0, 1) when n is 0."""
    if n == 0:
        return 0.0, 1.0
    z = -float(ndtri(alpha / 2))
    share, spread = successes / n, z * z / n
    centre, half = share + spread / 2, z * sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, (centre - half) / (1 + spread)), min(1.0, (centre + half) / (1 + spread))
