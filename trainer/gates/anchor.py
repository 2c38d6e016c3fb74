"""Has the model forgotten what nobody asked about? Its perplexity on texts that feedback is not about, beside the base's."""

from __future__ import annotations

from math import exp, isfinite

from ops.registry import GateResult


def anchor(candidate: float | None, base: float | None, max_rise: float, what: str) -> GateResult:
    """``candidate``, ``base``: nats a token on the same texts. The perplexities' ratio may be at most 1 + ``max_rise``.

    Beside the base and not the champion, so that small losses do not add up.
    """
    name, limit = "anchor_perplexity", 1 + max_rise
    if candidate is None or base is None:
        return GateResult(name=name, passed=False, threshold=limit, detail="no text to measure on")
    if not isfinite(candidate) or not isfinite(base):
        return GateResult(name=name, passed=False, threshold=limit, detail=f"it is {candidate} nats a token")
    ratio = exp(min(candidate - base, 100.0))
    detail = f"perplexity {exp(min(candidate, 100.0)):.4g} on {what}, the base's is {exp(min(base, 100.0)):.4g}"
    return GateResult(name=name, passed=ratio <= limit, value=ratio, threshold=limit, detail=detail)
