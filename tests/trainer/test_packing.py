"""Sequences side by side in one row are to the model what they are in rows of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from crew_member import learn
from noise import noisy
from transformers import BloomConfig, BloomForCausalLM, GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from trainer import packing
from trainer.batches import TokenBatch, packs
from trainer.packing import Layout, can_pack
from trainer.parallel import ALONE
from trainer.policy import AdapterModel

PROMPTS = [[70, 71, 72], [80], [90, 91, 92, 93, 94, 95], [60, 61]]
RESPONSES = [[10, 11], [20, 21, 22, 23, 24], [30], []]


def batch() -> TokenBatch:
    return TokenBatch.pack(PROMPTS, RESPONSES)


def test_a_layout_gives_back_what_it_spreads():
    layout = Layout.of(torch.tensor([2, 3, 1]))
    tokens = torch.arange(1, 7)
    assert layout.spread(tokens).tolist() == [[1, 2, 0], [3, 4, 5], [6, 0, 0]]
    assert layout.packed(layout.spread(tokens)).tolist() == tokens.tolist()
    assert layout.columns.tolist() == [0, 1, 0, 1, 2, 0]


def test_packs_hold_every_row_once_within_the_budget_and_count_no_padding():
    groups = list(packs(torch.tensor([3, 9, 1, 5, 9, 30]), 20))
    assert [g.tolist() for g in groups] == [[5], [1, 4], [3, 0, 2]]
    assert not list(packs(torch.tensor([], dtype=torch.long), 20))


def test_a_pack_of_one_long_and_many_short_rows_is_bounded_with_its_padding_too():
    groups = list(packs(torch.tensor([16, *[1] * 40]), 40))
    assert [len(group) for group in groups] == [4 * 40 // 16, 31]


def test_packed_answers_have_the_same_logprobs_and_gradients(tiny: AdapterModel):
    def found(packed: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
        tiny.packed = packed
        logprobs = tiny.response_logprobs("policy", batch())
        logprobs.square().sum().backward()
        gradients = [weight.grad.clone() for weight in weights]
        for weight in weights:
            weight.grad = None
        return logprobs.detach(), gradients

    tiny.add("policy")
    noisy(tiny, "policy")
    weights = tiny.trainable("policy")
    (wanted, pulled), (logprobs, gradients) = found(packed=False), found(packed=True)
    assert torch.allclose(logprobs, wanted, atol=1e-6)
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(gradients, pulled, strict=True))


def test_a_packed_pass_sees_no_padding_and_leaves_the_model_as_it_was(tiny: AdapterModel):
    seen: list[torch.Size] = []
    tiny.decoder.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs["input_ids"].shape), with_kwargs=True)
    before, tiny.packed = tiny.model.config._attn_implementation, True
    tiny.response_states("base", batch())
    assert seen == [(1, 20)]
    assert tiny.model.config._attn_implementation == before != packing.NAME


def test_packed_passes_make_the_same_update(tiny: AdapterModel, tiny_folder: Path):
    other = AdapterModel.load(tiny_folder, rank=8, alpha=16, seed=1)
    other.packed = True
    for one, packed in zip(learn(tiny, ALONE), learn(other, ALONE), strict=True):
        wanted = {name: value for name, value in one.items() if not name.startswith("timing/")}
        assert {name: packed[name] for name in wanted} == pytest.approx(wanted, rel=1e-3, abs=1e-5)
    for name, weight in tiny.weights("policy").items():
        assert torch.allclose(weight, other.weights("policy")[name], atol=1e-5), name


SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def test_models_that_would_attend_to_other_tokens_are_not_packed(tiny: AdapterModel):
    assert can_pack(tiny.model)
    mistral = {**SMALL, "intermediate_size": 64, "num_key_value_heads": 2}
    assert not can_pack(MistralForCausalLM(MistralConfig(**mistral, sliding_window=4)))
    assert can_pack(MistralForCausalLM(MistralConfig(**mistral, sliding_window=None)))
    assert not can_pack(BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4)).bfloat16())
    assert can_pack(GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4)).eval())  # has learnt positions
