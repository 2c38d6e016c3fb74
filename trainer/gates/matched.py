"""Does the win hold among answers of like length? One that is only won by saying more is not won."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from ops.evidence.intervals import wilson
from ops.registry import GateResult
from trainer.gates.judged import effective_n
from trainer.gates.learned import ONE_SIGMA

LIKE = 0.1
"""Two lengths are alike that differ by no more than this share of the longer one, or by `LIKE_TOKENS`."""

LIKE_TOKENS = 2


def matched(
    outcomes: Sequence[float], prompts: Sequence[int], candidate: Sequence[int], champion: Sequence[int], minimum: float
) -> GateResult:
    """The win rate over the champion where both answers to a prompt have about as many tokens, less a standard error.

    It has to be over ``minimum`` where the candidate's answers are longer than the champion's, by median or mean. Where they are
    not, nothing was won by length, and people may well like the shorter: then the figure is only told.
    """
    name = "win_rate_at_like_length"
    if not outcomes:
        return GateResult(name=name, passed=False, threshold=minimum, detail="no prompt to compare on")
    alike = [n for n, pair in enumerate(zip(candidate, champion, strict=True)) if _alike(*pair)]
    longer = median(candidate) > median(champion) or sum(candidate) > sum(champion)
    if not alike:
        detail = f"no two answers of like length; the candidate's are {'' if longer else 'not '}longer"
        return GateResult(name=name, passed=not longer, threshold=minimum, detail=detail)
    won, about = [outcomes[n] for n in alike], [prompts[n] for n in alike]
    rate, n = sum(won) / len(won), effective_n(won, about)
    low = wilson(rate * n, n, ONE_SIGMA)[0] if n >= 1 else 0.0
    detail = f"win rate {rate:.3f} over {len(won)} pairs of like length, less a standard error"
    if not longer:
        detail += "; not asked for, as the candidate's answers are not longer"
    return GateResult(name=name, passed=not longer or low > minimum, value=low, threshold=minimum, detail=detail)


def _alike(one: int, other: int) -> bool:
    return abs(one - other) <= max(LIKE_TOKENS, LIKE * max(one, other))
