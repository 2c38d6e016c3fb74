"""Sample-ratio mismatch: do the arms get the users they should? Lindon & Malek 2020, arXiv:2011.03567.

A Dirichlet-multinomial against the intended shares, averaged over concentrations of the prior.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, logsumexp

CONCENTRATIONS = (2.0, 100.0, 10_000.0)


def log_mismatch(counts: ArrayLike, shares: Sequence[float], concentrations: Sequence[float] = CONCENTRATIONS) -> float:
    """Log evidence against "units fall into the arms with probabilities ``shares``" (which sum to 1)."""
    return float(log_mismatches(counts, shares, concentrations))


def log_mismatches(
    counts: ArrayLike, shares: Sequence[float], concentrations: Sequence[float] = CONCENTRATIONS
) -> NDArray[np.float64]:
    """`log_mismatch` for counts (..., arms)."""
    n, p = np.asarray(counts, dtype=float), np.asarray(shares, dtype=float)
    if n.shape[-1:] != p.shape or not np.isclose(p.sum(), 1) or (p <= 0).any():
        raise ValueError(f"shares={list(shares)} do not fit counts of shape {n.shape}")
    logs = [
        (gammaln(k * p + n) - gammaln(k * p) - n * np.log(p)).sum(axis=-1) + gammaln(k) - gammaln(k + n.sum(axis=-1))
        for k in concentrations
    ]
    return np.asarray(logsumexp(logs, axis=0) - np.log(len(logs)))
