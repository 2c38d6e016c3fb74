"""Does the reward model know how sure it may be? Of votes that it is 80 % sure of, 80 % should be right."""

from __future__ import annotations

from math import isfinite

from ops.registry import GateResult
from trainer.measures import Measures


def calibrated(name: str, measures: Measures, n: int, maximum: float) -> GateResult:
    """The expected calibration error on ``n`` held-out votes, at most ``maximum`` and a standard error above chance's."""
    ece, noise, error = measures.ece, measures.ece_noise, measures.ece_error
    if ece is None or noise is None or error is None or not n:
        return GateResult(name=name, passed=False, threshold=maximum, detail="no held-out vote with a right answer")
    if not all(map(isfinite, (ece, noise, error))):
        return GateResult(name=name, passed=False, threshold=maximum, detail=f"it is {ece}, by chance {noise} ± {error}")
    limit = maximum + noise + error
    chance = f"a model that is right would show {noise:.3f} ± {error:.3f} by chance"
    detail = f"expected calibration error on n={n} votes, of which {chance}"
    return GateResult(name=name, passed=ece <= limit, value=ece, threshold=limit, detail=detail)
