"""One process of a trainer: ``accelerate launch crew_member.py MODEL OUT``. The first one writes what came of it to OUT."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ops.settings import PpoSettings
from trainer.assist import assist
from trainer.improve import improve
from trainer.learner import Metrics
from trainer.parallel import Crew
from trainer.policy import AdapterModel
from trainer.rollouts import LocalRollouts, Sample
from trainer.state_file import write_state

PROMPTS = [[65, 66, 67], [70], [80, 81, 82, 83, 84]]


def vowels(samples: Sequence[Sample]) -> Tensor:
    return torch.tensor([sum(token % 5 == 0 for token in sample.tokens) / len(sample.tokens) for sample in samples])


def learn(model: AdapterModel, crew: Crew, algorithm: str = "ppo") -> list[Metrics]:
    """Two steps: ten answers a step in four minibatches, of two or three rows."""
    model.add("policy")
    generator = torch.Generator().manual_seed(0)
    for weight in model.weights("policy").values():
        weight.add_(torch.randn(weight.shape, generator=generator) * 0.05)
    settings = PpoSettings(
        steps=2, prompts_per_step=5, samples_per_prompt=2, max_new_tokens=6, value_warmup_steps=3, learning_rate=1e-3, stop_kl=1.0
    )
    rollouts = LocalRollouts(model)
    return improve(
        model, PROMPTS, vowels, settings=settings, algorithm=algorithm, rollouts=rollouts, seed=0, reference="base", crew=crew
    ).steps


if __name__ == "__main__":
    torch.set_num_threads(1)
    mine = AdapterModel.load(sys.argv[1], rank=8, alpha=16, seed=1)
    crew = Crew.joined()
    if crew.rank:
        assist(mine, crew)
    else:
        steps = learn(mine, crew)
        write_state(Path(sys.argv[2]), {"size": crew.size, "steps": steps, "weights": mine.weights("policy")})
    crew.leave()
