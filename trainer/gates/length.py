"""Are the answers about as long as before? Growing is how a policy usually pleases without getting better."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from ops.registry import GateResult


def length(candidate: Sequence[int], champion: Sequence[int], minimum: float, maximum: float) -> GateResult:
    """The median number of tokens over the champion's, within [minimum, maximum]; the threshold shown is the nearer one."""
    if not candidate or not champion:
        return GateResult(name="length", passed=False, detail="no answer to measure")
    ratio = median(candidate) / max(1.0, median(champion))
    return GateResult(
        name="length",
        passed=minimum <= ratio <= maximum,
        value=ratio,
        threshold=minimum if ratio < 1 else maximum,
        detail=f"median {median(candidate):g} tokens, the champion's {median(champion):g}; allowed {minimum:g} to {maximum:g}",
    )
