"""Are the answers still true? Only where the domain knows the truth."""

from __future__ import annotations

from collections.abc import Sequence

from ops.registry import GateResult

MAX_LOSS = 0.05


def truth(correct: Sequence[bool], standard: float) -> GateResult:
    """The share of correct answers may be at most `MAX_LOSS` below ``standard``, the best share of the champions so far."""
    limit = standard - MAX_LOSS
    if not correct:
        return GateResult(name="correct", passed=False, threshold=limit, detail="no answer to look at")
    share = sum(correct) / len(correct)
    return GateResult(
        name="correct",
        passed=share >= limit,
        value=share,
        threshold=limit,
        detail=f"share of n={len(correct)}; the champions' best is {standard:.3f}",
    )
