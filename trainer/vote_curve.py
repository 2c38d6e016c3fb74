"""Would more votes tell more? The learning curve of one round: what is foretold after a part of its votes, and after all.

Each point is a model of its own: heads on what the frozen base reads, where every training begins (`trainer.linear`). Those
readings are made once for all points; to train an adapter for each of them would double the price of a round.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from feedback.raters.population import Population
from ops.settings import RewardSettings
from trainer.examples import Example, parted
from trainer.policy import AdapterModel
from trainer.report import CurvePoint, report
from trainer.reward import RewardModel

SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)

FEWEST = 8
"""Votes; of fewer nothing is told."""

_NAME = "vote_curve"


def vote_curve(
    model: AdapterModel,
    learnt: Sequence[Example],
    held_out: Sequence[Example],
    settings: RewardSettings,
    seed: int,
    people: Population | None = None,
) -> tuple[CurvePoint, ...]:
    """By number of votes, fewest first; each part is in the next one. ``people``: as for `trainer.report.report`."""
    votes, _ = parted(learnt, settings.goals)
    tested, _ = parted(held_out, settings.goals)
    order = random.Random(seed).sample(votes, len(votes))
    frozen = settings.model_copy(update={"trunk": "frozen", "goals": {}})
    sizes = sorted({round(share * len(order)) for share in SHARES})
    return tuple(_point(model, order[:size], tested, frozen, seed, people) for size in sizes if size >= FEWEST)


def _point(
    model: AdapterModel,
    part: Sequence[Example],
    tested: Sequence[Example],
    settings: RewardSettings,
    seed: int,
    people: Population | None,
) -> CurvePoint:
    reward = RewardModel(model, _NAME)
    try:
        reward.fit(part, settings, seed)
        told = report(reward, part, tested, people=people)
    finally:
        model.remove(_NAME)
    return CurvePoint(told.votes, told.accuracy, told.tfidf, told.measures.nll)
