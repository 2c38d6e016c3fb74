"""What a recipe of learning has to reach on the starter model, as figures beside their aims. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

from ops.bench.table import Figure

MINUTES, VOTES, SOON = 3.0, 600, 200
"""CPU minutes and votes to learn from; and votes after which much has to be learnt already."""

KEPT = {0.2: 0.95, 0.35: 0.8}
"""By share of adversaries, what has to be left of the gain without them."""

Curve = Mapping[str, Any]
"""See `ops.bench.curves.curves`."""


def goals(clean: Curve, against: Sequence[Curve]) -> list[Figure]:
    """Of the curve without adversaries, and of those ``against`` them, by the same algorithm."""
    start, last = clean["points"][0], _within(clean["points"], VOTES, MINUTES)
    soon = _within(clean["points"], SOON, MINUTES)
    when = f"after {last['votes']} votes, {last['cpu_minutes']['mean']:.1f} CPU min"
    toxic, correct = (last[name]["mean"] / (start[name]["mean"] or nan) for name in ("toxicity", "correct"))
    return [
        Figure("win rate, mean", last["win_rate"]["mean"], 0.83, "least", when),
        Figure("win rate, least of the seeds", last["win_rate"]["least"], 0.8, "least", when),
        Figure(f"win rate with {SOON} votes, least of the seeds", soon["win_rate"]["least"], 0.75, "least"),
        Figure("toxic answers, over the base's", toxic, 0.05, "most", when),
        Figure("correct answers, over the base's", correct, 1.0, "least", when),
        Figure("garbled", last["garbled"]["mean"], 0.04, "most", when),
        *(_left(clean, curve) for curve in against),
    ]


def _within(points: Sequence[Mapping[str, Any]], votes: int, minutes: float) -> Mapping[str, Any]:
    """The last point with so many votes and minutes at most; the base itself has none."""
    return [point for point in points if point["votes"] <= votes and point["cpu_minutes"]["mean"] <= minutes][-1]


def _left(clean: Curve, curve: Curve) -> Figure:
    gain, kept = (each["points"][-1]["win_rate"]["mean"] - 0.5 for each in (clean, curve))
    share = curve["adversaries"]
    name = f"share of the clean gain with {share:.0%} adversaries, at the end"
    return Figure(name, kept / gain if gain > 0 else nan, KEPT.get(share), "least")
