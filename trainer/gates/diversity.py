"""Do the answers still have many words to choose from? A policy that found one pleasing phrase says it everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ops.registry import GateResult


def distinct_2(candidate: Sequence[str], champion: Sequence[str], minimum_ratio: float) -> GateResult:
    """Distinct pairs of words over all of them (distinct-2; Li et al. 2016, arXiv:1510.03055), over the champion's.

    The longer a text, the more of its pairs have been there before: of both as many pairs are looked at as the shorter one has.
    """
    if not candidate or not champion:
        return GateResult(name="distinct_2", passed=False, threshold=minimum_ratio, detail="no answer to look at")
    pairs, others = word_pairs(candidate), word_pairs(champion)
    n = min(len(pairs), len(others))
    if n == 0:
        detail = "answers of one word have no pairs of words"
        return GateResult(name="distinct_2", passed=not others, threshold=minimum_ratio, detail=detail)
    own, standard = distinct_share(pairs[:n]), distinct_share(others[:n])
    return GateResult(
        name="distinct_2",
        passed=own / standard >= minimum_ratio,
        value=own / standard,
        threshold=minimum_ratio,
        detail=f"of {n} pairs of words {own:.3f} are different ones, the champion's {standard:.3f}",
    )


def word_pairs(texts: Sequence[str]) -> list[tuple[str, str]]:
    """All pairs of neighbouring words, as often as they stand there."""
    return [pair for text in texts for pair in pairwise(text.split())]


def distinct_share(pairs: Sequence[tuple[str, str]]) -> float:
    """Different ones over all of them: distinct-2; 0 without any."""
    return len(set(pairs)) / len(pairs) if pairs else 0.0
