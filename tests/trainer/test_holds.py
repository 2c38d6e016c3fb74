"""What holds a policy to its base: at each token, by transformers' own forward pass."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from noise import noisy
from torch import Tensor

from ops.settings import PpoSettings
from trainer.batches import TokenBatch
from trainer.holds import holds_of, logprobs_and_nats
from trainer.policy import AdapterModel

PROMPTS = [[70, 71, 72], [80], [90, 91, 92, 93, 94, 95]]
RESPONSES = [[10, 11], [20, 21, 22, 23, 24], [30]]


class Said(NamedTuple):
    """Before each token of the second response, (T, V)."""

    own: Tensor
    base: Tensor


@pytest.fixture
def said(tiny: AdapterModel) -> Said:
    tiny.add("policy")
    noisy(tiny, "policy")
    sequence = torch.tensor([PROMPTS[1] + RESPONSES[1]])
    found = []
    for name in ("policy", "base"):
        with tiny.using(name):
            found.append(tiny.model(input_ids=sequence).logits[0, len(PROMPTS[1]) - 1 : -1])
    return Said(*found)


def held(model: AdapterModel, name: str, **settings: float) -> tuple[Tensor, list[Tensor]]:
    batch = TokenBatch.pack(PROMPTS, RESPONSES)
    return logprobs_and_nats(model, name, batch, model.base_view(batch).states, holds_of(PpoSettings(**settings)))


def test_what_is_given_to_unlikely_tokens_is_counted_at_each_token(tiny: AdapterModel, said: Said):
    own, base = said.own.softmax(-1), said.base.softmax(-1)
    likely = base >= 0.3 * base.max(-1, keepdim=True).values
    wanted = -torch.where(likely, own, 0).sum(-1).log()
    logprobs, (nats,) = held(tiny, "policy", unlikely_coef=1.0, min_p=0.3)
    assert torch.allclose(logprobs, tiny.response_logprobs("policy", TokenBatch.pack(PROMPTS, RESPONSES)))
    assert wanted.min() > 0.1
    assert torch.allclose(nats[1], wanted, atol=1e-4)
    assert nats[2, 1:].eq(0).all()  # past the response's end
    _, (none,) = held(tiny, "policy", unlikely_coef=1.0, min_p=1e-9)
    assert none.abs().max() < 1e-5


def test_the_sharp_kl_is_the_kl_from_the_sharpened_base_where_the_base_is_sure(tiny: AdapterModel, said: Said):
    own = said.own.log_softmax(-1)
    entropies = torch.distributions.Categorical(logits=said.base).entropy()
    limit = entropies.sort().values[2:4].mean().item()  # between two: rounding decides nothing
    wanted = (own.exp() * (own - (said.base / 0.5).log_softmax(-1))).sum(-1)
    logprobs, (kls,) = held(tiny, "policy", sharp_kl_coef=1.0, sharp_temperature=0.5, sharp_entropy=limit)
    assert torch.allclose(logprobs, tiny.response_logprobs("policy", TokenBatch.pack(PROMPTS, RESPONSES)))
    assert wanted.min() > 0.1
    assert torch.allclose(kls[1], torch.where(entropies <= limit, wanted, 0), atol=1e-4)
    assert kls[2, 1:].eq(0).all()  # past the response's end
    _, (none,) = held(tiny, "base", sharp_kl_coef=1.0, sharp_temperature=1.0, sharp_entropy=1e9)
    assert none.abs().max() < 1e-5


def test_what_has_no_coefficient_is_not_asked(tiny: AdapterModel):
    tiny.add("policy")
    assert held(tiny, "policy")[1] == []
    both = holds_of(PpoSettings(unlikely_coef=2.0, sharp_kl_coef=3.0))
    assert [(hold.metric, hold.coef) for hold in both] == [("policy/unlikely", 2.0), ("policy/sharp_kl", 3.0)]
