"""Learning curves over seeds: means with intervals by number of votes, and when a win rate was reached. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median, stdev
from typing import Any

from scipy.stats import t as student

GOALS = (0.7, 0.8)
"""Win rates over the base."""

FIGURES = ("win_rate", "toxicity", "correct", "garbled", "polite", "rambling", "distinct_2", "kl")


@dataclass(frozen=True)
class Run:
    """One seed's run, as `trainer.bench.learning` tells it."""

    algorithm: str
    adversaries: float
    seed: int
    start: Mapping[str, float]
    rounds: Sequence[Mapping[str, Any]]
    best_of: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Run:
        return cls(**{name: told[name] for name in cls.__dataclass_fields__})

    @property
    def minutes(self) -> list[float]:
        """CPU minutes of all cycles up to each round."""
        total, minutes = 0.0, []
        for each in self.rounds:
            total += each["cpu_s"] / 60
            minutes.append(total)
        return minutes

    def reached(self, win_rate: float) -> tuple[int, float] | None:
        """Votes and CPU minutes after which the champion's win rate was first so high; None: never."""
        for each, minutes in zip(self.rounds, self.minutes, strict=True):
            if each["champion"]["win_rate"] >= win_rate:
                return each["votes"], minutes
        return None


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval for the mean of so few values; NaN for one alone."""
    if len(values) < 2:
        return math.nan, math.nan
    half = float(student.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return mean(values) - half, mean(values) + half


def summary(values: Sequence[float]) -> dict[str, Any]:
    """``mean`` with ``low`` and ``high``, ``median``, ``least``, ``most``, ``n``."""
    low, high = interval(values)
    return {
        "mean": mean(values),
        "low": low,
        "high": high,
        "median": median(values),
        "least": min(values),
        "most": max(values),
        "n": len(values),
    }


def curves(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One curve for each algorithm and share of adversaries, in the runs' order.

    ``points``: of the champion by votes, the base at 0 being the first; ``reached``: votes and minutes by win rate, a seed that
    never reached it being left out and counted by ``n`` of ``seeds``; ``best_of``: win rates of the base's best of n.
    """
    groups: dict[tuple[str, float], list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.algorithm, run.adversaries].append(run)
    return [
        {
            "algorithm": algorithm,
            "adversaries": adversaries,
            "seeds": [run.seed for run in own],
            "points": _points(own),
            "reached": {str(goal): _reached(own, goal) for goal in GOALS},
            "best_of": _best_of(own),
        }
        for (algorithm, adversaries), own in groups.items()
    ]


def _points(runs: Sequence[Run]) -> list[dict[str, Any]]:
    points = [{"votes": 0, "cpu_minutes": summary([0.0]), **{name: summary([r.start[name] for r in runs]) for name in FIGURES}}]
    for place in range(min(len(run.rounds) for run in runs)):
        champions = [run.rounds[place]["champion"] for run in runs]
        points.append(
            {
                "votes": runs[0].rounds[place]["votes"],
                "cpu_minutes": summary([run.minutes[place] for run in runs]),
                **{name: summary([champion[name] for champion in champions]) for name in FIGURES},
            }
        )
    return points


def _reached(runs: Sequence[Run], goal: float) -> dict[str, Any]:
    found = [reached for run in runs if (reached := run.reached(goal)) is not None]
    if not found:
        return {"n": 0, "votes": None, "minutes": None}
    return {"n": len(found), "votes": median(votes for votes, _ in found), "minutes": median(m for _, m in found)}


def _best_of(runs: Sequence[Run]) -> dict[str, Any]:
    told = [run.best_of for run in runs if run.best_of]
    return {name: summary([best[name]["win_rate"] for best in told]) for name in (told[0] if told else {})}
