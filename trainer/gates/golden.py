"""Does the reward model get the items right of which the right answer is known?"""

from __future__ import annotations

from math import sqrt

from ops.registry import GateResult


def golden(name: str, share: float | None, n: int, minimum: float) -> GateResult:
    """The share of ``n`` golden items that it gets right, at least ``minimum`` less a standard error. Without any it is open."""
    if share is None or not n:
        return GateResult(name=name, passed=True, threshold=minimum, detail="no golden item in the log")
    limit = minimum - sqrt(minimum * (1 - minimum) / n)
    detail = f"share of n={n} golden items that it gets right; {minimum:g} less a standard error"
    return GateResult(name=name, passed=share >= limit, value=share, threshold=limit, detail=detail)
