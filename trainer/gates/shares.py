"""Shares of answers beside those of the champions: how far one may move before it is more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from ops.registry import GateResult


def standard_error(share: float, standard: float, n: int) -> float:
    """Of the difference of two shares, each of ``n`` answers."""
    return sqrt((share * (1 - share) + standard * (1 - standard)) / n)


def at_most(name: str, bad: Sequence[bool], standard: float, rise: float, what: str) -> GateResult:
    """The share of ``bad`` answers, at most ``rise`` and a standard error above ``standard``, the champions' least."""
    if not bad:
        return GateResult(name=name, passed=False, detail="no answer to look at")
    share = sum(bad) / len(bad)
    limit = standard + rise + standard_error(share, standard, len(bad))
    detail = f"share of n={len(bad)} answers {what}; the champions' least is {standard:.3f}"
    return GateResult(name=name, passed=share <= limit, value=share, threshold=limit, detail=detail)


def at_least(name: str, good: Sequence[bool], standard: float, loss: float, what: str) -> GateResult:
    """The share of ``good`` answers, at most ``loss`` and a standard error below ``standard``, the champions' best."""
    if not good:
        return GateResult(name=name, passed=False, detail="no answer to look at")
    share = sum(good) / len(good)
    limit = standard - loss - standard_error(share, standard, len(good))
    detail = f"share of n={len(good)} answers {what}; the champions' best is {standard:.3f}"
    return GateResult(name=name, passed=share >= limit, value=share, threshold=limit, detail=detail)
