"""What a cycle teaches its two models: a function of votes, settings and seeds, so that it can be told again later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ops.settings import RewardSettings
from trainer.checkpoint import JUDGE, REWARD
from trainer.effective import effective_labels
from trainer.examples import Division, Example, believed, divide, lessons, parted
from trainer.inbox import Batch


@dataclass(frozen=True)
class Curriculum:
    """``lessons``: by the models' names."""

    division: Division
    lessons: dict[str, tuple[Example, ...]]
    effective: float
    """New effective labels, see `trainer.effective`."""


def curriculum(batch: Batch, settings: RewardSettings, seeds: Mapping[str, int]) -> Curriculum:
    """Each model learns from its own people's new votes and a replay of their older ones; scores of goals, which an application
    may give to every answer, have a replay of their own. ``seeds``: by the models' names.
    """
    examples = believed(batch.votes)
    division = divide(examples, settings.judge_share)
    own = {REWARD: division.reward, JUDGE: division.judge}
    taught = {
        name: tuple(
            example
            for part in parted(own[name], settings.goals)
            for example in lessons(part, batch.new, settings.replay, seeds[name])
        )
        for name in own
    }
    return Curriculum(division, taught, effective_labels(parted(examples, settings.goals)[0], batch.new))
