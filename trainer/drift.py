"""Do people judge otherwise than they did? What came since a commit, beside what was held out from it.

Each model is asked about the votes of those people whom only the other one learns from, on questions that it was never taught,
as it was at the commit ("test, then train", see `trainer.report`). Kinds of judgement are compared each with its own: a pair
leaves more open than a thumb, and more pairs than before are no drift.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from torch import Tensor

from feedback.raters.labels import grouped
from trainer.examples import Example
from trainer.reward import RewardModel
from trainer.spread import Spread

FEWEST = 8
"""Held-out votes of a kind: with less, nothing is known of how well they are foretold."""

NOISE = 3.0
"""Standard errors that a rise has to be above: it is looked at several times between two commits."""


@dataclass(frozen=True)
class Drift:
    """Mean nats of ``n`` new votes, what was to be expected of as many of each kind, and the difference's standard error."""

    n: int = 0
    nll: float = 0.0
    expected: float = 0.0
    error: float = 0.0

    def above(self, share: float) -> bool:
        """Whether people have become harder to foretell by more than this share, and by more than chance does."""
        return self.nll > self.expected * (1 + share) and self.nll - self.expected > NOISE * self.error


def drift_of(held_out: Mapping[str, Spread], new: Mapping[str, Sequence[float]]) -> Drift:
    """By stratum (a model and a kind of judgement): nats then, and each new vote's. A stratum that one of them lacks is left out.

    The error of a stratum's difference is sigma^2 (1/n + 1/n_held_out), of the larger of both variances: where all was easy, a
    single surprise is no drift. Strata count as they occur among the new votes.
    """
    known = {name: Spread.of(own) for name, own in new.items() if own and name in held_out and held_out[name].n >= FEWEST}
    n = sum(own.n for own in known.values())
    if not n:
        return Drift()
    nll, expected, squared = 0.0, 0.0, 0.0
    for name, own in known.items():
        then, share = held_out[name], own.n / n
        nll, expected = nll + share * own.mean, expected + share * then.mean
        squared += share**2 * max(own.variance, then.variance) * (1 / own.n + 1 / then.n)
    return Drift(n, nll, expected, sqrt(squared))


def nats_by_kind(reward: RewardModel, examples: Sequence[Example], scores: Sequence[Tensor]) -> dict[str, dict[str, float]]:
    """By kind of judgement and feedback id: nats of each vote as a stranger's. ``scores``: see `RewardModel.score_examples`.

    An application's figures are left out, as a model that has not learnt a metric foretells none of it.
    """
    judged = [(example, own) for example, own in zip(examples, scores, strict=True) if example.label != "scored"]
    return {
        kind: dict(zip((e.feedback_id for e, _ in own), reward.nll(*map(list, zip(*own, strict=True))), strict=True))
        for kind, own in grouped(judged, lambda each: each[0].kind).items()
    }
