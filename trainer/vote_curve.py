"""Would more votes tell more? The learning curve of one round: what is foretold after a part of its votes, and after all.

Each point is a model of its own: heads on what the frozen base reads, where every training begins (`trainer.linear`). Those
readings are made once for all points; to train an adapter for each of them would double the price of a round.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from feedback.raters.population import Population
from ops.settings import RewardSettings
from trainer.doubt import Ask
from trainer.examples import Example, parted
from trainer.policy import AdapterModel
from trainer.report import CurvePoint, RewardReport, report
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
    told = [tried(model, order[:size], tested, frozen, seed, people=people) for size in sizes if size >= FEWEST]
    return tuple(CurvePoint(each.votes, each.accuracy, each.tfidf, each.measures.nll) for each in told)


def tried(
    model: AdapterModel,
    learnt: Sequence[Example],
    tested: Sequence[Example],
    settings: RewardSettings,
    seed: int,
    *,
    ask: Ask | None = None,
    people: Population | None = None,
) -> RewardReport:
    """What a reward model foretells that is made for this and removed again. ``ask``: see `trainer.reward.RewardModel.fit`."""
    reward = RewardModel(model, _NAME)
    try:
        reward.fit(learnt, settings, seed, ask=ask)
        return report(reward, learnt, tested, people=people)
    finally:
        model.remove(_NAME)
