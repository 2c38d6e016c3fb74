"""How far has the policy gone? A long way from its reference is where a reward model is wrong and nobody has looked."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from ops.registry import GateResult


def divergence(name: str, log_ratios: Sequence[float], limit: float) -> GateResult:
    """Mean of log π(y) - log π_ref(y) over whole answers y drawn from π at temperature 1: the KL, in nats a sequence."""
    if not log_ratios:
        return GateResult(name=name, passed=False, threshold=limit, detail="no answer to measure on")
    kl = sum(log_ratios) / len(log_ratios)
    if not isfinite(kl):
        return GateResult(name=name, passed=False, threshold=limit, detail=f"the KL is {kl}")
    return GateResult(name=name, passed=kl <= limit, value=kl, threshold=limit, detail=f"nats a sequence, n={len(log_ratios)}")
