"""Does the reward model know how sure it may be? Of votes that it is 80 % sure of, 80 % should be right."""

from __future__ import annotations

from math import isfinite

from ops.registry import GateResult


def calibrated(name: str, ece: float | None, noise: float | None, n: int, maximum: float) -> GateResult:
    """The expected calibration error on ``n`` held-out votes, at most ``maximum`` above ``noise``, what chance alone shows."""
    if ece is None or noise is None or not n:
        return GateResult(name=name, passed=False, threshold=maximum, detail="no held-out vote with a right answer")
    if not isfinite(ece) or not isfinite(noise):
        return GateResult(name=name, passed=False, threshold=maximum, detail=f"it is {ece}, by chance {noise}")
    limit = maximum + noise
    detail = f"expected calibration error on n={n} votes, of which a model that is right would show {noise:.3f} by chance"
    return GateResult(name=name, passed=ece <= limit, value=ece, threshold=limit, detail=detail)
