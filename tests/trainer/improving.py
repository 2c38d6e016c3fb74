"""One short run of PPO or RLOO on a tiny model, as the tests of them start it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from ops.settings import PpoSettings
from trainer.improve import improve
from trainer.policy import AdapterModel
from trainer.rollouts import LocalRollouts, Sample

PROMPTS = [[65, 66, 67], [70], [80, 81, 82, 83, 84]]
LOW = 128

ALGORITHMS = pytest.mark.parametrize("algorithm", ["ppo", "rloo"])


def settings(**changes: object) -> PpoSettings:
    few = {"steps": 1, "prompts_per_step": 4, "samples_per_prompt": 2, "max_new_tokens": 6, "kl_target": None}
    return PpoSettings(**{**few, "missing_eos_penalty": 0.0, **changes})


def low_tokens(samples: Sequence[Sample]) -> Tensor:
    return torch.tensor([sum(t < LOW for t in s.tokens) / len(s.tokens) for s in samples])


def run(model: AdapterModel, score: Callable[[Sequence[Sample]], Tensor] = low_tokens, **changes: object):
    algorithm = changes.pop("algorithm", "ppo")
    reference = changes.pop("reference", "base")
    seed = changes.pop("seed", 0)
    rollouts = changes.pop("rollouts", None)
    return improve(
        model,
        changes.pop("prompts", PROMPTS),
        score,
        settings=settings(**changes),
        algorithm=algorithm,
        rollouts=rollouts or LocalRollouts(model),
        seed=seed,
        reference=reference,
    )
