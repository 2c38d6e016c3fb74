"""Are the answers about as long as before? Growing is how a policy usually pleases without getting better."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from ops.registry import GateResult


def length(
    candidate: Sequence[int], champion: Sequence[int], minimum: float, maximum: float, base: float | None = None
) -> GateResult:
    """The median number of tokens over the champion's, within [minimum, maximum]; the threshold shown is the nearer one.

    ``base``: the base's median, if it is known: whoever only comes back to it after a curt champion does not grow.
    """
    if not candidate or not champion:
        return GateResult(name="length", passed=False, detail="no answer to measure")
    own, standard = median(candidate), median(champion)
    ratio, most = own / max(1.0, standard), max(maximum, (base or 0.0) / max(1.0, standard))
    known = "" if base is None else f", the base's {base:g}"
    return GateResult(
        name="length",
        passed=minimum <= ratio <= most,
        value=ratio,
        threshold=minimum if ratio < 1 else most,
        detail=f"median {own:g} tokens, the champion's {standard:g}{known}; allowed {minimum:g} to {most:g}",
    )
