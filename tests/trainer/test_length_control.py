"""Length control of the reward, and the end of a training that has gone too far from its reference."""

from __future__ import annotations

import pytest
import torch
from crew_member import PROMPTS, vowels

from ops.settings import PpoSettings
from trainer import ppo
from trainer.improve import ImproveResult, improve
from trainer.policy import AdapterModel
from trainer.rollouts import LocalRollouts


def run(model: AdapterModel, score=vowels, **changes: object) -> ImproveResult:
    settings = {"steps": 1, "prompts_per_step": 8, "samples_per_prompt": 2, "max_new_tokens": 10, "kl_coef": 0.0}
    settings |= {"missing_eos_penalty": 0.0, **changes}
    return improve(
        model,
        PROMPTS,
        score,
        settings=PpoSettings(kl_target=None, **settings),
        algorithm="rloo",
        rollouts=LocalRollouts(model),
        seed=0,
        reference="base",
    )


def by_length(samples):
    return torch.tensor([float(len(sample.tokens)) for sample in samples])


def test_the_slope_is_that_of_the_line_through_the_scores():
    assert ppo.length_slope(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([1, 2, 3])) == pytest.approx(2.5)
    assert ppo.length_slope(torch.tensor([1.0, 2.0]), torch.tensor([4, 4])) == 0


def test_the_ramp_begins_at_four_fifths_of_the_budget_and_ends_at_one():
    assert ppo.length_ramp(torch.tensor([0, 80, 85, 90, 100]), 100).tolist() == pytest.approx([0, 0, 0.25, 0.5, 1], abs=1e-6)


def test_a_reward_that_is_nothing_but_length_is_nothing_once_length_is_taken_out(tiny: AdapterModel):
    tiny.add("policy")
    earned = {residual: run(tiny, by_length, length_residual=residual).steps[0] for residual in (False, True)}
    assert earned[False]["policy/grad_norm"] > 0.01
    assert earned[True]["policy/grad_norm"] == pytest.approx(0, abs=1e-3)


def test_what_is_not_length_stays_in_the_reward(tiny: AdapterModel):
    tiny.add("policy")
    assert run(tiny, length_residual=True).steps[0]["policy/grad_norm"] > 0.01


def test_long_answers_lose_the_penalty(tiny: AdapterModel):
    tiny.add("policy")
    free, charged = (run(tiny, learning_rate=1e-12, length_penalty=penalty).steps[0] for penalty in (0.0, 3.0))
    lengths = free["rollout/length"]
    assert charged["rollout/length"] == lengths
    assert 8 < lengths <= 10
    lost = free["objective/rlhf_reward"] - charged["objective/rlhf_reward"]
    assert 0 < lost <= 3


def test_answers_without_an_end_lose_the_fine(tiny: AdapterModel):
    tiny.add("policy")
    free, fined = (run(tiny, learning_rate=1e-12, missing_eos_penalty=fine).steps[0] for fine in (0.0, 3.0))
    assert fined["rollout/ended"] == free["rollout/ended"] < 1
    lost = free["objective/rlhf_reward"] - fined["objective/rlhf_reward"]
    assert lost == pytest.approx(3 * (1 - free["rollout/ended"]), abs=1e-4)


def test_a_policy_that_is_too_far_from_its_reference_learns_no_further_and_says_why(tiny: AdapterModel):
    tiny.add("policy")
    generator = torch.Generator().manual_seed(0)
    for weight in tiny.weights("policy").values():
        weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    before = {name: weight.clone() for name, weight in tiny.weights("policy").items()}
    result = run(tiny, steps=5, max_kl=0.01)
    assert result.ended_by == "kl"
    assert len(result.steps) == 1
    assert result.steps[0]["objective/kl"] > 0.01
    assert "policy/updates" not in result.steps[0]
    assert all(torch.equal(weight, before[name]) for name, weight in tiny.weights("policy").items())
    assert run(tiny, steps=2, max_kl=None).ended_by == "steps"
    assert run(tiny, steps=9, max_kl=None, time_budget_s=1e-6).ended_by == "time"
