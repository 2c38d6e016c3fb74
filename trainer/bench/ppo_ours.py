"""Our side of the PPO bench, in a process of its own: ``python -m trainer.bench.ppo_ours SCENE MODE OUT``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from feedback.events import BASE
from ops.domain.people import gold
from ops.settings import PpoSettings
from trainer.bench.ppo_meter import Meter
from trainer.bench.ppo_scene import Mode, Scene
from trainer.improve import improve
from trainer.learner import POLICY, REWARD
from trainer.policy import AdapterModel
from trainer.reward import RewardModel
from trainer.rollouts import LocalRollouts, Sample

ENDLESS_S = 86_400.0
NEVER = 1e9
"""Nats."""


class Script:
    """The scene's responses, whoever asks."""

    def __init__(self, scene: Scene, eos: int) -> None:
        self._said = {tuple(prompt): response for prompt, response in zip(scene.prompts, scene.responses, strict=True)}
        self._eos = eos

    def generate(
        self, adapter_name: str, prompts: list[list[int]], *, n: int, temperature: float, max_new_tokens: int, seed: int
    ) -> list[Sample]:
        said = [tuple(self._said[tuple(prompt)]) for prompt in prompts]
        return [
            Sample(place, tuple(prompts[place]), tokens, None, tokens[-1] == self._eos, "") for place, tokens in enumerate(said)
        ]


def run(scene: Scene, mode: Mode) -> dict[str, Any]:
    meter = Meter(scene.device)
    model = AdapterModel.load(
        scene.model,
        rank=scene.rank,
        alpha=scene.alpha,
        dtype=getattr(torch, scene.dtype),
        device=scene.device,
        seed=scene.seed,
    )
    model.add(POLICY)
    if mode == "gold":
        return _gold(scene, model)
    reward = RewardModel(model, REWARD)
    script = Script(scene, model.eos_token)
    settings = _settings(scene, value_warmup_steps=0, stop_kl=NEVER, max_kl=NEVER)  # as many updates as TRL makes

    def learn() -> None:
        improve(
            model,
            scene.prompts,
            reward.score,
            settings=settings,
            algorithm="ppo",
            rollouts=script,
            seed=scene.seed,
            reference=BASE,
            on_step=lambda _: meter.step(),
        )

    meter.begin()
    if mode == "cost":
        learn()
        return meter.report()
    with FlopCounterMode(display=False) as counter:
        learn()
    return {"flops": counter.get_total_flops() / scene.steps}


def _settings(scene: Scene, **more: Any) -> PpoSettings:
    return PpoSettings(
        steps=scene.steps,
        time_budget_s=ENDLESS_S,
        prompts_per_step=scene.batch,
        samples_per_prompt=1,
        max_new_tokens=scene.max_new_tokens,
        learning_rate=scene.learning_rate,
        value_learning_rate=scene.value_learning_rate,
        epochs=scene.epochs,
        minibatches=scene.minibatches,
        kl_coef=scene.kl_coef,
        kl_target=None,
        **more,
    )


def _gold(scene: Scene, model: AdapterModel) -> dict[str, Any]:
    asked = {tuple(prompt): question for prompt, question in zip(scene.prompts, scene.questions, strict=True)}
    mean, std = scene.gold or (0.0, 1.0)

    def score(samples: Sequence[Sample]) -> Tensor:
        return torch.tensor([(gold(asked[tuple(s.prompt_tokens)], s.text) - mean) / std for s in samples])

    result = improve(
        model,
        scene.prompts,
        score,
        settings=_settings(scene),
        algorithm="ppo",
        rollouts=LocalRollouts(model),
        seed=scene.seed,
        reference=BASE,
    )
    model.save(POLICY, Path(scene.adapter))
    return {"scores": [step["objective/score"] for step in result.steps]}


if __name__ == "__main__":
    made = run(Scene.read(Path(sys.argv[1])), sys.argv[2])  # type: ignore[arg-type]
    Path(sys.argv[3]).write_text(json.dumps(made))
