"""Each algorithm by the same trial: from few votes on the starter model's answers to answers that their people prefer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from simulated import Said, encoded, votes_on

from feedback.join import Vote
from ops.domain.facts import questions
from ops.models import ModelRef
from ops.presets import STARTER
from ops.settings import RewardSettings, TrainSettings
from trainer.examples import believed
from trainer.improve import improve
from trainer.offline import learn_offline
from trainer.policy import AdapterModel
from trainer.reward import RewardModel
from trainer.rollouts import LocalRollouts

VOTES, ASKED = 200, 300

SETTINGS = TrainSettings.model_validate(
    {
        "ppo": {
            "steps": 3,
            "prompts_per_step": 16,
            "learning_rate": 2e-3,
            "value_learning_rate": 2e-3,
            "kl_coef": 0.1,
            "stop_kl": 0.1,
            "value_warmup_steps": 1,
        },
        **{algorithm: STARTER["train"][algorithm] for algorithm in ("dpo", "kto", "sft")},
    }
)


@pytest.fixture(scope="module")
def model(starter: ModelRef) -> AdapterModel:
    return AdapterModel.load(starter.path, rank=16, alpha=32)


@pytest.fixture(scope="module")
def votes(model: AdapterModel) -> list[Vote]:
    return votes_on(model, VOTES)


@pytest.fixture(scope="module")
def reward(model: AdapterModel, votes: list[Vote]) -> RewardModel:
    reward = RewardModel(model, "reward")
    reward.fit(believed(votes), RewardSettings(learning_rate=3e-3, epochs=2), seed=0)
    return reward


@pytest.fixture(scope="module")
def start(model: AdapterModel) -> Said:
    return Said.by(model, "base", ASKED)


@pytest.fixture
def win_rate(model: AdapterModel, start: Said):
    """Of the policy over the start, with its interval."""
    model.add("policy")
    yield lambda: Said.by(model, "policy", ASKED).over(start)
    model.remove("policy")


@pytest.mark.parametrize("algorithm", ["dpo", "kto", "sft"])
def test_learning_from_the_votes_themselves_beats_the_start(model, votes, win_rate: Callable[[], dict], algorithm: str):
    weights = dict.fromkeys((vote.feedback_id for vote in votes), 1.0)
    steps, _ = learn_offline(model, votes, weights, algorithm=algorithm, settings=SETTINGS, seed=0)
    assert {f"{algorithm}/loss", f"{algorithm}/grad_norm"} <= set(steps[0])
    assert win_rate()["low"] > 0.5


@pytest.mark.parametrize("algorithm", ["ppo", "rloo"])
def test_learning_from_a_reward_beats_the_start(model, reward: RewardModel, win_rate: Callable[[], dict], algorithm: str):
    prompts = encoded(model, [question.text for question in questions("train")])
    rollouts = LocalRollouts(model)
    improve(
        model, prompts, reward.cautious, settings=SETTINGS.ppo, algorithm=algorithm, rollouts=rollouts, seed=0, reference="base"
    )
    assert win_rate()["low"] > 0.5
