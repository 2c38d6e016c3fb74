"""The loop around PPO and RLOO: what it starts from, what it changes, and where it ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from improving import ALGORITHMS, PROMPTS, low_tokens, run, settings
from noise import noisy
from torch import Tensor

from trainer.batches import TokenBatch
from trainer.experience import Experience
from trainer.improve import TrainingDiverged, improve
from trainer.learner import Critic, Learner
from trainer.policy import AdapterModel
from trainer.reward import RewardModel
from trainer.rollouts import LocalRollouts, Sample
from trainer.state_file import read_state, write_state


def change(model: AdapterModel, **changes: object) -> Tensor:
    """What one run does to a fresh adapter "policy", as one vector."""
    model.add("policy")
    noisy(model, "policy", size=0.05)
    before = {key: w.clone() for key, w in model.weights("policy").items()}
    run(model, **changes)
    moved = torch.cat([(w - before[key]).flatten() for key, w in model.weights("policy").items()])
    model.remove("policy")
    return moved


@ALGORITHMS
def test_before_anything_is_learnt_kl_is_0_and_the_policy_is_what_was_sampled_from(tiny: AdapterModel, algorithm: str):
    tiny.add("policy")
    metrics = run(tiny, algorithm=algorithm, epochs=1, minibatches=1).steps[0]
    assert metrics["objective/kl"] == 0
    assert metrics["rollout/logprob_difference"] < 1e-5
    assert metrics["policy/approx_kl"] == pytest.approx(0, abs=1e-8)  # every ratio is 1
    assert metrics["policy/clip_fraction"] == 0
    assert metrics["policy/grad_norm"] > 0


def test_kl_is_0_against_a_champion_that_the_policy_is_a_copy_of_and_not_against_the_base(tiny: AdapterModel):
    tiny.add("reference")
    noisy(tiny, "reference", size=0.05)
    tiny.add("policy", source="reference")
    assert run(tiny, reference="reference", learning_rate=1e-9).steps[0]["objective/kl"] == 0
    assert run(tiny, reference="base", prompts_per_step=32).steps[0]["objective/kl"] > 0.05


class Asked(AdapterModel):
    """Notes of which adapter logits are asked."""

    def foretold(self, name: str, batch: TokenBatch):
        self.asked.append(name)
        return super().foretold(name, batch)


def test_the_reward_and_the_kls_share_one_pass_through_the_base(tiny_folder: Path):
    model = Asked.load(tiny_folder, rank=8, alpha=16, seed=1)
    model.asked = []
    model.add("policy")
    reward = RewardModel(model, "reward")
    run(model, reward.score, steps=3, algorithm="rloo", unlikely_coef=1.0)
    assert model.asked.count("base") == 3
    model.asked.clear()
    model.add("champion")
    run(model, reward.score, steps=3, algorithm="rloo", reference="champion")
    assert (model.asked.count("base"), model.asked.count("champion")) == (3, 3)


@ALGORITHMS
def test_the_kl_coefficient_changes_what_is_learnt(tiny: AdapterModel, algorithm: str):
    one = change(tiny, algorithm=algorithm, kl_coef=0.0)
    again = change(tiny, algorithm=algorithm, kl_coef=0.0)
    other = change(tiny, algorithm=algorithm, kl_coef=1.0)
    assert torch.equal(one, again)
    assert not torch.allclose(one, other, atol=1e-4)


@ALGORITHMS
def test_what_was_broken_off_after_any_step_goes_on_to_the_same_weights(tmp_path: Path, tiny_folder: Path, algorithm: str):
    def fresh() -> AdapterModel:
        model = AdapterModel.load(tiny_folder, rank=8, alpha=16, seed=1)
        model.add("policy")
        return model

    def on(model: AdapterModel, **options: object) -> list[dict[str, float]]:
        steps = {"steps": 3, "prompts_per_step": 2, "kl_target": 1.0, "value_warmup_steps": 2}
        result = improve(
            model,
            PROMPTS,
            low_tokens,
            settings=settings(**steps),
            algorithm=algorithm,
            rollouts=LocalRollouts(model),
            seed=3,
            reference="base",
            **options,
        )
        return [{key: value for key, value in step.items() if not key.startswith("timing/")} for step in result.steps]

    whole = fresh()
    steps = on(whole, keep_every=1, keep=lambda number, state: write_state(tmp_path / str(number), state))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "3"]
    for number in (1, 2, 3):
        again = fresh()
        noisy(again, "policy", size=0.05)
        assert on(again, resume=read_state(tmp_path / str(number))) == steps
        for key, weight in whole.weights("policy").items():
            assert torch.equal(weight, again.weights("policy")[key])


@pytest.mark.parametrize(("algorithm", "each"), [("ppo", 1), ("rloo", 2)])
def test_a_batch_of_one_prompt_learns(tiny: AdapterModel, algorithm: str, each: int):
    def asked(adapter: str) -> float:
        samples = LocalRollouts(tiny).generate(adapter, [[65]], n=256, temperature=1.0, max_new_tokens=2, seed=7)
        return low_tokens(samples).mean().item()

    tiny.add("policy")
    run(
        tiny,
        algorithm=algorithm,
        steps=80,
        prompts=[[65]],
        prompts_per_step=1,
        samples_per_prompt=each,
        max_new_tokens=2,
        kl_coef=0.0,
        learning_rate=3e-3,
        stop_kl=1.0,
    )
    assert asked("policy") > asked("base") + 0.15


def test_ppo_changes_policy_and_value_and_leaves_every_other_adapter_and_the_base_alone(tiny: AdapterModel):
    for name in ("policy", "value", "reward", "reference"):
        tiny.add(name)
        noisy(tiny, name, seed=len(name))
    before = {name: p.detach().clone() for name, p in tiny.model.named_parameters()}
    run(tiny, steps=2, reference="reference")
    changed = {n.split(".")[-2] for n, p in tiny.model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {"policy", "value"}


def test_the_critic_starts_from_the_reward_adapter_and_is_gone_at_the_end(tiny: AdapterModel):
    tiny.add("policy")
    tiny.add("reward")
    noisy(tiny, "reward", size=0.05)
    critic = Critic(tiny)
    mine, theirs = tiny.weights("value"), tiny.weights("reward")
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
    assert critic(TokenBatch.pack([[65]], [[1, 2]])).eq(0).all()
    tiny.remove("value")
    run(tiny)
    assert tiny.names == ("policy", "reward")


def test_the_critic_learns_what_answers_will_earn(tiny: AdapterModel):
    tiny.add("policy")

    def by_prompt(samples: Sequence[Sample]) -> Tensor:
        return torch.tensor([float(s.prompt_tokens == (70,)) for s in samples])

    ask = {"steps": 15, "prompts_per_step": 12, "learning_rate": 1e-9, "value_learning_rate": 1e-2, "value_clip": 10.0}
    cold = run(tiny, by_prompt, value_warmup_steps=0, **ask).steps
    warm = run(tiny, by_prompt, value_warmup_steps=40, **ask).steps
    assert cold[0]["value/explained_variance"] == pytest.approx(0, abs=1e-6)
    assert warm[0]["value/explained_variance"] > 0.5
    assert cold[-1]["value/explained_variance"] > 0.8


def gradients(model: AdapterModel, experience: Experience) -> dict[str, Tensor]:
    """Of policy and value, from an update that is one minibatch of everything."""
    model.add("policy")
    noisy(model, "policy", size=0.05)
    ask = settings(epochs=1, minibatches=1, learning_rate=1e-12, value_learning_rate=1e-12, max_grad_norm=1e9, stop_kl=1e9)
    model.add("value")
    noisy(model, "value", size=0.05)
    critic = Critic(model)
    torch.nn.init.ones_(critic.head.weight)
    Learner(model, ask, critic, torch.Generator().manual_seed(0)).update(experience)
    found = {n: p.grad.clone() for n, p in model.model.named_parameters() if p.grad is not None}
    model.remove("value")
    model.remove("policy")
    return found


def test_neither_padding_nor_bucketing_changes_a_gradient(tiny: AdapterModel):
    torch.manual_seed(0)
    batch = TokenBatch.pack(PROMPTS, [[1, 2, 3], [4], [5, 6, 7, 8, 9]])
    old = tiny.response_logprobs("base", batch)
    experience = Experience(batch, old, torch.randn(3, 5), torch.rand(3, 5), torch.randn(3, 5), torch.randn(3, 5))
    wanted = gradients(tiny, experience)
    assert {n.split(".")[-2] for n in wanted} == {"policy", "value"}
    assert all(g.any() for g in wanted.values())
    wide = TokenBatch(torch.cat([batch.tokens, torch.full((3, 7), 9)], 1), batch.prompt_lengths, batch.response_lengths)
    padded = Experience(wide, old, experience.advantages, experience.weights, experience.values, experience.returns)
    tiny.tokens_per_pass = 1  # every row in a pass of its own
    for other in (experience, padded):
        got = gradients(tiny, other)
        assert all(torch.allclose(got[n], g, atol=1e-5, rtol=1e-4) for n, g in wanted.items())


class Mistaken(LocalRollouts):
    """A sampler that holds all it drew e^30 times as likely as the trainer does."""

    def generate(self, *asked, **how):
        return [replace(s, logprobs=tuple(p + 30 for p in s.logprobs)) for s in super().generate(*asked, **how)]


def test_what_the_trainer_would_hardly_have_said_is_hardly_learnt_from(tiny: AdapterModel):
    tiny.add("policy")
    plain = run(tiny, algorithm="rloo", kl_coef=0.0).steps[0]
    tiny.remove("policy")
    tiny.add("policy")
    mistaken = run(tiny, algorithm="rloo", kl_coef=0.0, rollouts=Mistaken(tiny)).steps[0]
    assert plain["policy/grad_norm"] > 1e-3
    assert mistaken["policy/grad_norm"] < 1e-9


def test_an_update_that_runs_away_is_ended_early(tiny: AdapterModel):
    tiny.add("policy")
    ask = {"learning_rate": 3e-2, "epochs": 4, "prompts_per_step": 16, "minibatches": 4}
    held = run(tiny, stop_kl=0.01, **ask).steps[0]
    assert 1 <= held["policy/updates"] < 16
    assert held["policy/approx_kl"] > 0
    assert run(tiny, stop_kl=1e9, **ask).steps[0]["policy/updates"] == 16


def test_a_minibatch_that_finds_the_policy_too_far_away_is_measured_and_not_learnt_from(tiny: AdapterModel):
    tiny.add("policy")
    noisy(tiny, "policy")
    before = {name: weight.clone() for name, weight in tiny.weights("policy").items()}
    batch = TokenBatch.pack(PROMPTS, [[1, 2, 3], [4], [5, 6, 7, 8, 9]])
    experience = Experience(batch, tiny.response_logprobs("policy", batch) - 1.0, torch.ones(3, 5))

    def learnt(stop_kl: float) -> float:
        ask = settings(epochs=1, minibatches=1, clip_range=9.0, dual_clip=20.0, stop_kl=stop_kl)
        return Learner(tiny, ask, None, torch.Generator()).update(experience)["policy/approx_kl"]

    far = learnt(0.1)
    assert far > 0.1
    assert all(torch.equal(weight, before[name]) for name, weight in tiny.weights("policy").items())
    learnt(far + 1)
    assert not all(torch.equal(weight, before[name]) for name, weight in tiny.weights("policy").items())


def test_the_kl_coefficient_moves_only_with_a_target(tiny: AdapterModel):
    tiny.add("policy")
    assert run(tiny, kl_coef=0.2).kl_coef == 0.2
    assert run(tiny, kl_coef=0.2, kl_target=6.0).kl_coef == pytest.approx(0.2 * (1 - 0.2 * 8 / 10_000), rel=1e-4)


def test_the_same_seed_gives_the_same_policy_and_another_seed_another(tiny: AdapterModel):
    one, again, other = (change(tiny, steps=2, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_scores_that_are_not_numbers_end_the_training(tiny: AdapterModel):
    tiny.add("policy")
    with pytest.raises(TrainingDiverged, match="8 of 8 scores"):
        run(tiny, lambda samples: torch.full((len(samples),), math.nan))
    assert tiny.names == ("policy",)


@ALGORITHMS
def test_a_learning_rate_that_explodes_ends_the_training(tiny: AdapterModel, algorithm: str):
    tiny.add("policy")
    with pytest.raises(TrainingDiverged, match="policy"):
        run(tiny, algorithm=algorithm, learning_rate=1e30, steps=5, stop_kl=1e38)


def test_a_critic_that_explodes_ends_the_training(tiny: AdapterModel):
    tiny.add("policy")
    with pytest.raises(TrainingDiverged, match="value"):
        run(tiny, value_learning_rate=1e30, steps=5)


def test_it_stops_when_out_of_time_and_reports_every_step(tiny: AdapterModel):
    tiny.add("policy")
    assert len(run(tiny, steps=3).steps) == 3
    assert len(run(tiny, steps=100, time_budget_s=1e-6).steps) == 1
    seen: list[dict[str, float]] = []
    improve(
        tiny,
        PROMPTS,
        low_tokens,
        settings=settings(steps=2),
        algorithm="rloo",
        rollouts=LocalRollouts(tiny),
        seed=0,
        reference="base",
        on_step=seen.append,
    )
    assert len(seen) == 2
    wanted = {"objective/score", "objective/kl", "objective/rlhf_reward", "policy/entropy", "rollout/ended", "rollout/length"}
    assert wanted | {"timing/rollouts_s", "timing/update_s", "policy/approx_kl", "policy/clip_fraction"} <= set(seen[0])


def test_no_prompts_is_an_error(tiny: AdapterModel):
    tiny.add("policy")
    with pytest.raises(ValueError, match="no prompts"):
        run(tiny, prompts=[])
