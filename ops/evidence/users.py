"""Events per exposed user: does the challenger raise or lower a rate? After Lindon & Malek 2020, arXiv:2011.03567.

Each user counts with the first event of a metric only. With b = 1 if that user was assigned the challenger, rho the
logged probability of that among the analysed arms, and theta the ratio of the challenger's rate to the control's,
E = sum_j w_j prod theta_j^b / (rho theta_j + 1 - rho).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

EFFECTS = np.linspace(0.05, 1.5, 15)
"""|log theta| of the mixture, equally weighted."""


@dataclass(frozen=True)
class Firsts:
    """Users with a first event, as (challenger's, control's) by rho."""

    by_rho: Mapping[float, tuple[int, int]] = field(default_factory=dict)

    @property
    def challenger(self) -> int:
        return sum(counts[0] for counts in self.by_rho.values())

    @property
    def control(self) -> int:
        return sum(counts[1] for counts in self.by_rho.values())


def log_increase(firsts: Firsts) -> float:
    """Against "theta <= 1"."""
    return float(log_mixture(firsts.by_rho, EFFECTS))


def log_decrease(firsts: Firsts) -> float:
    """Against "theta >= 1"."""
    return float(log_mixture(firsts.by_rho, -EFFECTS))


def log_not_above(firsts: Firsts, ratio: float) -> float:
    """Against "theta >= ``ratio``" (non-inferiority): the mixture lies below the ratio, divided by the ratio's factor."""
    return float(log_mixture(firsts.by_rho, log(ratio) - EFFECTS) - log_mixture(firsts.by_rho, np.array([log(ratio)])))


def log_mixture(by_rho: Mapping[float, tuple[ArrayLike, ArrayLike]], effects: NDArray[np.float64]) -> NDArray[np.float64]:
    """log of the mean over log theta in ``effects`` (J,) of prod theta^b / (rho theta + 1 - rho).

    Counts may be arrays of one shape, which is then the result's.
    """
    logs = np.zeros_like(effects)  # (..., J)
    for rho, counts in by_rho.items():
        challenger, control = (np.asarray(count)[..., None] for count in counts)
        logs = logs + challenger * effects - (challenger + control) * np.log(rho * np.exp(effects) + 1 - rho)
    return np.asarray(logsumexp(logs, axis=-1) - np.log(len(effects)))
