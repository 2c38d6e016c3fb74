"""Does everybody get the same answer? That is how a policy ends that has found one which its reward model likes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ops.registry import GateResult


def sameness(texts: Sequence[str], prompts: Sequence[int]) -> float | None:
    """The chance that answers to two different prompts are the same to the letter; None with fewer than two prompts."""
    among = _pairs(Counter(prompts))
    pairs = len(texts) * (len(texts) - 1) // 2 - among
    if pairs <= 0:
        return None
    alike = _pairs(Counter(texts)) - _pairs(Counter(zip(texts, prompts, strict=True)))
    return alike / pairs


def _pairs(counts: Counter[object]) -> int:
    return sum(count * (count - 1) // 2 for count in counts.values())


def collapse(candidate: Sequence[str], champion: Sequence[str], prompts: Sequence[int], max_rise: float) -> GateResult:
    """`sameness` of the candidate's answers, at most ``max_rise`` above the champion's. ``prompts``: which one each is about."""
    own, standard = sameness(candidate, prompts), sameness(champion, prompts)
    if own is None or standard is None:
        return GateResult(name="collapse", passed=True, detail="one prompt alone: there are no two answers to compare")
    [(text, count)] = Counter(candidate).most_common(1)
    limit = standard + max_rise
    detail = f"chance that two prompts get the same answer, the champion's is {standard:.3f}"
    if count > 1:
        detail += f"; {count} of {len(candidate)} are alike, of {len(text.split())} words"
    return GateResult(name="collapse", passed=own <= limit, value=own, threshold=limit, detail=detail)
