"""Does the reward model like length, or brevity, more than people do? (ODIN, arXiv:2402.07319: length is the usual hack.)"""

from __future__ import annotations

from math import isfinite, sqrt

from ops.registry import GateResult


def length_bias(name: str, expected: float | None, label: float | None, n: int, maximum: float) -> GateResult:
    """How far beyond what people said the model leans on length, over ``n`` held-out votes: at most ``maximum`` and a standard
    error, 1/√n.

    ``label``: the correlation with length of what people said; ``expected``: of what the model expects them to say, see
    `trainer.measures.LengthBias`. None where they are not defined, as with answers of one length. One that leans their way, but
    less, as a model of few votes does that is not sure yet, is not biased.
    """
    if expected is None or label is None or not n:
        return GateResult(name=name, passed=True, threshold=maximum, detail="the held-out answers do not differ in length")
    limit = maximum + 1 / sqrt(n)
    if not (isfinite(expected) and isfinite(label)):
        return GateResult(name=name, passed=False, threshold=limit, detail=f"the correlations are {expected} and {label}")
    beyond = expected - min(max(expected, min(0.0, label)), max(0.0, label))
    detail = f"correlation with length {label:+.3f} of what people said, {expected:+.3f} of what it expects of them, n={n}"
    return GateResult(name=name, passed=abs(beyond) <= limit, value=abs(beyond), threshold=limit, detail=detail)
