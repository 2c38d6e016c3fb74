"""Does a judge whom the policy never learnt from prefer its answers to the champion's?

The judge's score is one number an answer, so the order of the two answers cannot matter: one look is both orders.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ops.evidence.intervals import wilson
from ops.registry import GateResult


def wins(candidate: Sequence[float], champion: Sequence[float]) -> list[float]:
    """1 where the candidate's answer scores higher, ½ where they are equal."""
    return [0.5 if a == b else float(a > b) for a, b in zip(candidate, champion, strict=True)]


def judged(outcomes: Sequence[float], prompts: Sequence[int], minimum: float) -> GateResult:
    """Wilson's lower bound (95 %, two-sided) of the mean outcome, over ``minimum``. ``prompts``: which one each is about."""
    if not outcomes:
        return GateResult(name="judge_win_rate", passed=False, threshold=minimum, detail="no prompt to compare on")
    rate, n = sum(outcomes) / len(outcomes), effective_n(outcomes, prompts)
    low = wilson(rate * n, n)[0] if n >= 1 else 0.0
    return GateResult(
        name="judge_win_rate",
        passed=low > minimum,
        value=low,
        threshold=minimum,
        detail=f"win rate {rate:.3f} over {len(outcomes)} answers to {len(set(prompts))} prompts (as good as n={n}), lower bound",
    )


def effective_n(outcomes: Sequence[float], prompts: Sequence[int]) -> int:
    """How many independent outcomes tell as much: answers to one prompt are alike (the design effect of cluster sampling).

    With every prompt asked once it is the number of outcomes.
    """
    groups: dict[int, list[float]] = defaultdict(list)
    for outcome, prompt in zip(outcomes, prompts, strict=True):
        groups[prompt].append(outcome)
    if len(groups) == len(outcomes) or len(groups) < 2:
        return len(groups)
    rate = sum(outcomes) / len(outcomes)
    residuals = [sum(group) - rate * len(group) for group in groups.values()]
    variance = sum(r * r for r in residuals) * len(groups) / (len(groups) - 1) / len(outcomes) ** 2
    if variance == 0:
        return len(groups)
    return max(1, min(len(outcomes), round(rate * (1 - rate) / variance)))
