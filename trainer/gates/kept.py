"""Is the new reward model as good as the last one? Both foretell the same votes, which neither has learnt from."""

from __future__ import annotations

from ops.registry import GateResult
from trainer.gates.shares import standard_error


def kept(name: str, now: float | None, last: float | None, n: int, max_loss: float) -> GateResult:
    """The accuracy on ``n`` votes, at most ``max_loss`` and a standard error below the ``last`` one's. Without one it is open."""
    if now is None or last is None or not n:
        return GateResult(name=name, passed=True, detail="no last one, or no vote since, to compare on")
    limit = last - max_loss - standard_error(now, last, n)
    detail = f"accuracy on n={n} votes that came since the last one, which gets {last:.3f} of them right"
    return GateResult(name=name, passed=now >= limit, value=now, threshold=limit, detail=detail)
