"""Are the answers still answers? Garbling is the usual way to please a small reward model."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ops.registry import GateResult

_REPEATED = re.compile(r"(.{3,80}?)\1{3,}", re.DOTALL)
"""Something said four times in a row or more."""

_RULE = 32
"""More signs in a row than a line drawn under a heading has."""


def is_well_formed(text: str, ended: bool) -> bool:
    """It has come to an end by itself, says something, and does not go round in circles."""
    return ended and bool(text.strip()) and not any(map(_is_loop, _REPEATED.finditer(text)))


def _is_loop(repeated: re.Match[str]) -> bool:
    """Signs without a letter may stand in a row: a table's rule, zeros of a number."""
    return any(sign.isalpha() for sign in repeated[1]) or len(repeated[0]) > _RULE


def form(well_formed: Sequence[bool], standard: float, minimum_ratio: float) -> GateResult:
    """The share of well-formed answers over ``standard``, the best share of the champions so far."""
    if not well_formed:
        return GateResult(name="well_formed", passed=False, threshold=minimum_ratio, detail="no answer to look at")
    share = sum(well_formed) / len(well_formed)
    ratio = share / standard if standard > 0 else 1.0
    return GateResult(
        name="well_formed",
        passed=ratio >= minimum_ratio,
        value=ratio,
        threshold=minimum_ratio,
        detail=f"share {share:.3f} over the champions' best {standard:.3f}, n={len(well_formed)}",
    )
