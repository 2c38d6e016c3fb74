"""How long a rater takes to decide."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from feedback.raters.share import Share

FAST_MS = 1_000.0
"""Faster than anybody reads an answer."""

SLOW_MS = 600_000.0
"""Ten minutes: they did something else meanwhile."""


@dataclass(frozen=True)
class DecisionTimes:
    """Quantiles in milliseconds, None without a time."""

    median_ms: float | None
    p10_ms: float | None
    p90_ms: float | None
    too_fast: Share
    too_slow: Share


def decision_times(times_ms: Iterable[float | None], *, fast_ms: float = FAST_MS, slow_ms: float = SLOW_MS) -> DecisionTimes:
    """Of the times that are known; quantiles are interpolated linearly."""
    known = np.array([time for time in times_ms if time is not None])
    if not known.size:
        return DecisionTimes(None, None, None, Share(), Share())
    p10, median, p90 = (float(quantile) for quantile in np.quantile(known, (0.1, 0.5, 0.9)))
    return DecisionTimes(median, p10, p90, Share.of((known < fast_ms).tolist()), Share.of((known > slow_ms).tolist()))
