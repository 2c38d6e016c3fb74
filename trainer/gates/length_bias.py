"""Does the reward model like long answers more than people do? (ODIN, arXiv:2402.07319: length is the usual hack.)"""

from __future__ import annotations

from math import isfinite, sqrt

from ops.registry import GateResult


def length_bias(name: str, expected: float | None, label: float | None, n: int, maximum: float) -> GateResult:
    """The distance of two correlations with length over ``n`` held-out votes, at most ``maximum`` and a standard error, 1/√n.

    ``label``: of what people said; ``expected``: of what the model expects them to say, see `trainer.measures.LengthBias`. None
    where they are not defined, as with answers of one length.
    """
    if expected is None or label is None or not n:
        return GateResult(name=name, passed=True, threshold=maximum, detail="the held-out answers do not differ in length")
    difference, limit = abs(expected - label), maximum + 1 / sqrt(n)
    if not isfinite(difference):
        return GateResult(name=name, passed=False, threshold=limit, detail=f"the correlations are {expected} and {label}")
    detail = f"correlation with length {label:+.3f} of what people said, {expected:+.3f} of what it expects of them, n={n}"
    return GateResult(name=name, passed=difference <= limit, value=difference, threshold=limit, detail=detail)
