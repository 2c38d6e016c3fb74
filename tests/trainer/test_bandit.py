"""PPO and RLOO on a bandit, whose optimum is known in closed form."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from improving import ALGORITHMS, run
from noise import noisy
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from trainer.batches import TokenBatch
from trainer.policy import AdapterModel
from trainer.rollouts import Sample

ARMS = 6


@pytest.fixture
def bandit(tiny: AdapterModel) -> AdapterModel:
    """A policy over ARMS tokens and nothing else, wide enough to hold any distribution over them."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=ARMS, initializer_range=0.2, tie_word_embeddings=True, **shape)
    model = AdapterModel(LlamaForCausalLM(config), tiny.tokenizer, rank=8, alpha=16)
    model.add("policy")
    return model


def arms(model: AdapterModel, name: str) -> Tensor:
    """(ARMS,) probability of each."""
    each = TokenBatch.pack([[0]] * ARMS, [[arm] for arm in range(ARMS)])
    return model.response_logprobs(name, each).exp().detach()[:, 0]


def pay(samples: Sequence[Sample]) -> Tensor:
    """The arm's number, or the mean of several."""
    return torch.tensor([sum(s.tokens) / len(s.tokens) for s in samples])


PULL = {"prompts": [[0]], "prompts_per_step": 32, "samples_per_prompt": 4, "learning_rate": 3e-3, "stop_kl": 0.1}


@ALGORITHMS
def test_with_nothing_but_kl_to_earn_the_policy_returns_to_its_reference(bandit: AdapterModel, algorithm: str):
    noisy(bandit, "policy", size=0.4)
    before = (arms(bandit, "policy") - arms(bandit, "base")).abs().sum()
    run(bandit, lambda samples: torch.zeros(len(samples)), algorithm=algorithm, kl_coef=1.0, steps=40, max_new_tokens=1, **PULL)
    after = (arms(bandit, "policy") - arms(bandit, "base")).abs().sum()
    assert before > 0.8
    assert after < 0.3 * before


@ALGORITHMS
def test_a_bandit_ends_at_its_known_optimum(bandit: AdapterModel, algorithm: str):
    """With pay r in deviations of the first batch and a KL coefficient b, no policy beats base·exp(r / (deviation · b))."""
    base = arms(bandit, "base")
    numbers = torch.arange(ARMS)
    deviation = ((base * numbers**2).sum() - (base * numbers).sum() ** 2).sqrt()
    optimum = base * (numbers / deviation).exp()
    optimum /= optimum.sum()
    run(bandit, pay, algorithm=algorithm, kl_coef=1.0, steps=50, max_new_tokens=1, **PULL)
    assert (base - optimum).abs().sum() > 0.5
    assert (arms(bandit, "policy") - optimum).abs().sum() < 0.25


def test_with_nothing_else_to_earn_only_what_the_base_holds_unlikely_is_given_up(bandit: AdapterModel):
    base = arms(bandit, "base")
    limit = (base.sort().values[2:4].mean() / base.max()).item()  # three arms are below it
    likely = base >= limit * base.max()
    assert likely.sum() == ARMS - 3
    quick = PULL | {"algorithm": "rloo", "prompts_per_step": 2, "learning_rate": 1e-3, "stop_kl": 1e9, "steps": 8}
    nothing = {"kl_coef": 0.0, "max_new_tokens": 1}
    run(bandit, lambda samples: torch.zeros(len(samples)), unlikely_coef=1.0, min_p=limit, **quick, **nothing)
    policy = arms(bandit, "policy")
    assert base[~likely].sum() > 0.1
    assert policy[~likely].sum() < 0.2 * base[~likely].sum()


def test_with_nothing_but_the_sharp_kl_the_policy_becomes_the_sharpened_base_and_only_where_that_is_sure(bandit: AdapterModel):
    base = arms(bandit, "base")
    sharp = base**2 / (base**2).sum()  # at temperature 1/2
    entropy = -(base * base.log()).sum().item()

    def alone(limit: float) -> float:
        quick = PULL | {"algorithm": "rloo", "prompts_per_step": 2, "learning_rate": 1e-2, "stop_kl": 1e9, "steps": 12}
        held = {"sharp_kl_coef": 1.0, "sharp_temperature": 0.5, "sharp_entropy": limit, "kl_coef": 0.0}
        run(bandit, lambda samples: torch.zeros(len(samples)), max_new_tokens=1, **quick, **held)
        return (arms(bandit, "policy") - sharp).abs().sum().item()

    before = (base - sharp).abs().sum().item()
    assert before > 0.2
    assert alone(entropy - 0.01) == pytest.approx(before, abs=1e-5)
    assert alone(entropy + 0.01) < 0.1 * before


@ALGORITHMS
def test_without_a_kl_coefficient_the_best_arm_is_all_that_is_pulled(bandit: AdapterModel, algorithm: str):
    assert arms(bandit, "base")[-1] < 0.3
    run(bandit, pay, algorithm=algorithm, kl_coef=0.0, steps=40, max_new_tokens=3, **{**PULL, "learning_rate": 5e-3})
    assert arms(bandit, "policy")[-1] > 0.95
