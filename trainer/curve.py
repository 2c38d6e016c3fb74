"""A learning curve: how good a reward model is after so many votes, beside both baselines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ops.settings import RewardSettings
from trainer.examples import Example
from trainer.policy import AdapterModel
from trainer.report import RewardReport, report
from trainer.reward import RewardModel

_NAME = "curve"


def learning_curve(
    model: AdapterModel,
    examples: Sequence[Example],
    held_out: Sequence[Example],
    sizes: Iterable[int],
    settings: RewardSettings,
    seed: int,
) -> Iterator[RewardReport]:
    """For each size (``votes`` of the report) a model of its own, taught the first so many examples and tried on the same others.

    The caller sees to it that ``held_out`` shares neither raters nor prompts with the examples. Each report comes as it is made.
    """
    for size in sizes:
        reward = RewardModel(model, _NAME)
        try:
            reward.fit(examples[:size], settings, seed)
            yield report(reward, examples[:size], held_out)
        finally:
            model.remove(_NAME)
