"""The mathematics of PPO, by hand and by brute force."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trainer import ppo

ON = torch.tensor([[True, True]])


def test_gae_equals_the_sum_over_all_later_errors():
    torch.manual_seed(0)
    gamma, lam, lengths = 0.9, 0.7, [5, 1, 3]
    rewards, values = torch.randn(3, 5), torch.randn(3, 5)
    mask = torch.arange(5)[None] < torch.tensor(lengths)[:, None]
    got = ppo.gae(rewards, values, mask, gamma=gamma, lam=lam)
    for row, length in enumerate(lengths):
        v = [*values[row, :length].tolist(), 0.0]
        errors = [rewards[row, t].item() + gamma * v[t + 1] - v[t] for t in range(length)]
        for t in range(length):
            wanted = sum((gamma * lam) ** (k - t) * errors[k] for k in range(t, length))
            assert got[row, t].item() == pytest.approx(wanted, abs=1e-5)
        assert got[row, length:].eq(0).all()


def test_gae_with_lambda_1_and_no_values_is_the_reward_still_to_come():
    rewards, mask = torch.tensor([[-0.1, -0.2, 2.0]]), torch.ones(1, 3, dtype=torch.bool)
    got = ppo.gae(rewards, torch.zeros(1, 3), mask, gamma=1.0, lam=1.0)
    assert got[0].tolist() == pytest.approx([1.7, 1.8, 2.0])


def test_gae_does_not_read_past_a_responses_end():
    mask = torch.tensor([[True, False]])
    got = ppo.gae(torch.tensor([[1.0, 99.0]]), torch.tensor([[0.5, 99.0]]), mask, gamma=1.0, lam=1.0)
    assert got.tolist() == [[0.5, 0.0]]


def loss_of(log_ratio: list[float], advantages: list[float], weights: Tensor | None = None) -> tuple[Tensor, dict, Tensor]:
    logprobs = torch.tensor([log_ratio], requires_grad=True)
    loss, metrics = ppo.ppo_policy_loss(
        logprobs, torch.zeros(1, 2), torch.tensor([advantages]), ON, clip_range=0.2, dual_clip=3.0, weights=weights
    )
    loss.backward()
    return loss, metrics, logprobs.grad


def test_policy_loss_on_two_tokens_by_hand():
    # ratio 1.1, advantage 2: -2.2, inside the range; ratio 0.9, advantage -1: 0.9, inside too
    loss, metrics, grad = loss_of([math.log(1.1), math.log(0.9)], [2.0, -1.0])
    assert loss.item() == pytest.approx((-2.2 + 0.9) / 2)
    assert grad[0].tolist() == pytest.approx([-1.1, 0.45])  # d/dlogprob of -A·ratio is -A·ratio, over two tokens
    assert metrics["policy/clip_fraction"] == 0
    k3 = (1.1 - 1 - math.log(1.1) + 0.9 - 1 - math.log(0.9)) / 2
    assert metrics["policy/approx_kl"] == pytest.approx(k3, abs=1e-6)


def test_policy_loss_is_clipped_where_the_ratio_has_gone_far_enough():
    # ratio 1.65 with a gain is held at 1.2; ratio 0.61 with a loss is held at 0.8
    loss, metrics, grad = loss_of([0.5, -0.5], [1.0, -1.0])
    assert loss.item() == pytest.approx((-1.2 + 0.8) / 2)
    assert grad.eq(0).all()
    assert metrics["policy/clip_fraction"] == 1


def test_policy_loss_is_not_clipped_where_the_ratio_has_gone_the_wrong_way():
    loss, metrics, grad = loss_of([-0.5, 0.5], [1.0, -1.0])
    assert loss.item() == pytest.approx((-math.exp(-0.5) + math.exp(0.5)) / 2)
    assert grad.ne(0).all()
    assert metrics["policy/clip_fraction"] == 0


def test_dual_clip_bounds_the_loss_of_a_bad_token_that_became_likely():
    # ratio e^2 = 7.39 with advantage -2: 14.8 without the dual clip, 3·2 with it, and no gradient
    loss, metrics, grad = loss_of([2.0, 0.0], [-2.0, 0.0])
    assert loss.item() == pytest.approx(6.0 / 2)
    assert grad[0, 0] == 0
    assert metrics["policy/dual_clip_fraction"] == 0.5


def test_weights_multiply_each_tokens_loss():
    loss, _, grad = loss_of([0.0, 0.0], [1.0, 1.0], torch.tensor([[0.5, 2.0]]))
    assert loss.item() == pytest.approx(-(0.5 + 2.0) / 2)
    assert grad[0].tolist() == pytest.approx([-0.25, -1.0])


def test_padding_even_when_not_finite_changes_no_loss():
    mask = torch.tensor([[True, False]])
    logprobs = torch.tensor([[0.1, math.inf]], requires_grad=True)
    values = torch.tensor([[0.1, math.nan]])
    loss, metrics = ppo.ppo_policy_loss(logprobs, values * 0, values, mask, clip_range=0.2, dual_clip=3.0)
    loss.backward()
    assert logprobs.grad[0, 0].isfinite()
    assert logprobs.grad[0, 1] == 0
    assert loss.item() == pytest.approx(-0.1 * math.exp(0.1))
    assert all(math.isfinite(m) for m in metrics.values())
    assert ppo.value_loss(values, values, values + 1, mask, value_clip=0.2).item() == pytest.approx(0.5)


def value_loss_of(value: float, old: float, wanted: float) -> tuple[float, float]:
    values = torch.tensor([[value]], requires_grad=True)
    one = torch.ones(1, 1, dtype=torch.bool)
    loss = ppo.value_loss(values, torch.tensor([[old]]), torch.tensor([[wanted]]), one, value_clip=0.2)
    loss.backward()
    return loss.item(), values.grad.item()


def test_value_loss_near_the_old_value_is_half_the_squared_error():
    assert value_loss_of(0.1, 0.0, 1.0) == pytest.approx((0.5 * 0.9**2, -0.9))


def test_value_loss_gives_no_gradient_to_a_value_that_has_run_ahead():
    # from 0 to 1, the return: only 0.2 of the way counts in one update
    assert value_loss_of(1.0, 0.0, 1.0) == pytest.approx((0.5 * 0.8**2, 0.0))


def test_value_loss_pulls_back_a_value_that_went_the_wrong_way():
    assert value_loss_of(-1.0, 0.0, 1.0) == pytest.approx((0.5 * 2.0**2, -2.0))


def test_rewards_are_the_kl_of_each_token_and_the_score_on_the_last():
    mask = torch.tensor([[True, True, True], [True, False, False]])
    logprobs = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, 5.0, 5.0]])
    ref_logprobs = torch.tensor([[-1.5, -2.0, -2.0], [-3.0, 0.0, 0.0]])
    got = ppo.token_rewards(torch.tensor([10.0, 20.0]), logprobs, ref_logprobs, mask, kl_coef=0.1)
    assert got[0].tolist() == pytest.approx([-0.05, 0.0, 10.1])
    assert got[1].tolist() == pytest.approx([19.8, 0.0, 0.0])


def test_scores_are_counted_in_deviations_clipped_and_fined_without_an_end():
    scores, ended = torch.tensor([3.0, 103.0, 1.0]), torch.tensor([True, True, False])
    got = ppo.shaped_scores(scores, ended, mean=1.0, std=2.0, clip=5.0, missing_eos_penalty=1.5)
    assert got.tolist() == pytest.approx([1.0, 5.0, -1.5])


def test_whitening_looks_at_the_masked_entries_of_the_whole_batch():
    values = torch.tensor([[1.0, 3.0], [5.0, 1000.0]])
    got = ppo.masked_whiten(values, torch.tensor([[True, True], [True, False]]))
    spread = math.sqrt(8 / 3)  # 1, 3, 5: mean 3, variance 8/3
    assert got.flatten().tolist() == pytest.approx([-2 / spread, 0.0, 2 / spread, 0.0], abs=1e-6)


def test_whitening_a_batch_without_difference_gives_zeros_and_leaves_a_batch_of_one_as_it_is():
    assert ppo.masked_whiten(torch.full((2, 2), 7.0), ON.expand(2, 2)).eq(0).all()
    assert ppo.masked_whiten(torch.tensor([[2.0, 3.0]]), torch.tensor([[True, False]])).tolist() == [[2.0, 0.0]]


def test_leaving_one_out_compares_each_sample_with_its_prompts_others():
    got = ppo.leave_one_out(torch.tensor([1.0, 2.0, 6.0, 10.0, 10.0, 10.0]), 3)
    assert got.tolist() == pytest.approx([1 - 4, 2 - 3.5, 6 - 1.5, 0, 0, 0])


@pytest.mark.parametrize(("count", "each"), [(4, 1), (5, 2)])
def test_leaving_one_out_needs_two_samples_of_every_prompt(count: int, each: int):
    with pytest.raises(ValueError, match=f"{count} samples, {each} a prompt"):
        ppo.leave_one_out(torch.zeros(count), each)


def test_importance_weights_are_the_ratio_of_trainer_to_sampler_capped_and_detached():
    logprobs = torch.tensor([[math.log(0.3), math.log(0.9)]], requires_grad=True)
    got = ppo.importance_weights(logprobs, torch.tensor([[math.log(0.6), math.log(0.1)]]), cap=2.0)
    assert got[0].tolist() == pytest.approx([0.5, 2.0])
    assert not got.requires_grad


def test_explained_variance_is_1_for_perfect_values_and_0_for_constant_ones():
    returns = torch.tensor([[1.0, 3.0]])
    assert ppo.explained_variance(returns, returns, ON) == 1
    assert ppo.explained_variance(torch.zeros(1, 2), returns, ON) == 0
    assert ppo.explained_variance(torch.zeros(1, 2), torch.ones(1, 2), ON) == 0


@pytest.mark.parametrize(
    ("kl", "wanted"),
    [
        (6.6, 0.1 * (1 + 0.1 * 0.0128)),  # 10 % over the target
        (60.0, 0.1 * (1 + 0.2 * 0.0128)),  # far over: 20 % at most
        (0.0, 0.1 * (1 - 0.2 * 0.0128)),
    ],
)
def test_the_kl_coefficient_follows_the_kl_towards_its_target(kl: float, wanted: float):
    assert ppo.next_kl_coef(0.1, kl, target=6.0, samples=128) == pytest.approx(wanted)
