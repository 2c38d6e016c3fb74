"""Do trainer and engine mean the same model? What was trained is not what people get where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from ops.registry import GateResult


def agreement(differences: Sequence[float] | None, limit: float, why_not: str = "") -> GateResult:
    """Mean |log-probability by the engine - by the trainer| of the tokens that the engine sampled, nats.

    None where no engine could be asked, for the reason ``why_not``: then there is nothing to compare, and the gate stands open.
    """
    name = "engine_agreement"
    if differences is None:
        return GateResult(name=name, passed=True, threshold=limit, detail=f"not compared: {why_not}")
    if not differences:
        return GateResult(name=name, passed=False, threshold=limit, detail="the engine's answers have no token")
    mean = sum(differences) / len(differences)
    if not isfinite(mean):
        return GateResult(name=name, passed=False, threshold=limit, detail=f"the mean difference is {mean}")
    detail = f"nats a token between the engine's log-probabilities and the trainer's, n={len(differences)} tokens"
    return GateResult(name=name, passed=mean < limit, value=mean, threshold=limit, detail=detail)
