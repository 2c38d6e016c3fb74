"""What each vote of a batch weighs: nobody much, newcomers little, who errs often less.

A vote's weight is the product of what it has by itself (such as an inverse propensity) and its rater's `ramp`; then no rater and
no API key keeps more than a share of the whole. How often a rater errs is no weight to a reward model, which hears their votes
through that noise (`trainer.likelihood`); to whatever only counts votes, `reliability` is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum
from typing import NamedTuple

from feedback.join import Vote
from feedback.raters.caps import Totals, capped
from feedback.raters.labels import grouped

RATER_SHARE = 0.01
"""Of all weight, for one rater; twice an even share where that is more, as it is with less than 200 raters."""

KEY_SHARE = 0.1
"""For one API key; twice an even share where that is more, as it is with less than 20 keys."""

FULL_DAYS = 3.0
"""After so long a rater is no newcomer any more."""

FRESH_HOURS = 1.0
"""Younger than this is as old as this: in a project of an hour nobody is known better than anybody else."""

FULL_VOTES = 10
FEW_VOTES_SHARE = 0.3
"""Of a full weight, with no votes at all; from there it rises evenly to `FULL_VOTES`."""


class Weighed(NamedTuple):
    """A vote as the caps see it. ``key_id`` is "" for votes that came without a key, which no key's cap is about."""

    rater: str
    key_id: str
    weight: float


def ramp(votes: int, age_s: float) -> float:
    """The share of a full weight that a rater has who first voted ``age_s`` seconds ago and has ``votes`` standing votes.

    Age counts most: it is what somebody with 500 fresh accounts cannot make.
    """
    days = max(age_s / 86_400, FRESH_HOURS / 24)
    return min(1.0, days / FULL_DAYS) * (FEW_VOTES_SHARE + (1 - FEW_VOTES_SHARE) * min(1.0, votes / FULL_VOTES))


def reliability(flip: float) -> float:
    """1 - 2 epsilon, and 0 for who is wrong as often as right: by how much a rater's word moves the odds, for small odds."""
    return max(0.0, 1 - 2 * flip)


def ramps(votes: Sequence[Vote]) -> dict[str, float]:
    """Each rater's `ramp` at the time of the newest vote: a function of the votes alone, so that a replay gives the same.

    Raters of imported votes alone are no newcomers: an operator chose them, and many data sets have a rater for each row.
    """
    now = max((vote.time for vote in votes), default=0.0)
    raters: Mapping[str, list[Vote]] = grouped(votes, lambda vote: vote.rater)
    return {
        rater: 1.0 if all(vote.source == "imported" for vote in own) else ramp(len(own), now - min(vote.time for vote in own))
        for rater, own in raters.items()
    }


def batch_weights(votes: Sequence[Weighed]) -> list[float]:
    """The votes' weights after the caps on raters and keys, with mean 1; in the votes' order, and not dependent on it.

    All 0 if no vote weighs anything. Where no weights can keep both caps (a rater who has nine keys to themselves, say), both
    are doubled until some can.
    """
    shares: dict[tuple[str, str], list[float]] = {}
    for vote in votes:
        if vote.weight > 0:
            shares.setdefault((vote.rater, vote.key_id), []).append(vote.weight)
    if not shares:
        return [0.0] * len(votes)
    totals = {pair: fsum(sorted(weights)) for pair, weights in sorted(shares.items())}
    fitted = _fitted(totals)
    factors = {pair: fitted[pair] / total for pair, total in totals.items()}
    weights = [vote.weight * factors.get((vote.rater, vote.key_id), 0.0) for vote in votes]
    mean = fsum(weights) / len(weights)
    return [weight / mean for weight in weights]


def _fitted(totals: Totals) -> dict[tuple[str, str], float]:
    raters, keys = {rater for rater, _ in totals}, {key for _, key in totals}
    rater_share, key_share = max(RATER_SHARE, 2 / len(raters)), max(KEY_SHARE, 2 / len(keys))
    while True:
        fitted = capped(totals, rater_share, key_share)
        if fitted is not None:
            return fitted
        rater_share, key_share = 2 * rater_share, 2 * key_share
