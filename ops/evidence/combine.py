"""Several tests, and several challengers, under one error level."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp


def log_mean(logs: Sequence[float]) -> float:
    """Log of the mean of e-values given as logs: an e-value whatever their dependence."""
    return float(logsumexp(logs) - np.log(len(logs)))


def gamma(t: int) -> float:
    """Share of alpha for the t-th rollout (t >= 1): 1/(t (t + 1)), which sums to 1 over all t."""
    if t < 1:
        raise ValueError(f"t={t}: rollouts are counted from 1")
    return 1 / (t * (t + 1))


def alpha_at(t: int, promotions: int, alpha: float) -> float:
    """Level of the t-th rollout by e-LOND (Xu & Ramdas 2024, arXiv:2401.08452): alpha gamma_t (1 + promotions so far).

    It holds the share of false promotions among all promotions at ``alpha`` under any dependence; while no challenger
    is better, that is the probability of a first false promotion.
    """
    return min(1.0, alpha * gamma(t) * (1 + promotions))
