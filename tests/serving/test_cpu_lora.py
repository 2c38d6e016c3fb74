"""LoRA by adapter gives what vLLM's own gives by token, and nothing to tokens without an adapter."""

from __future__ import annotations

import pytest
import torch
from vllm.lora.layers import LoRAMapping
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.platforms import current_platform

from serving.vllm_cpu.lora import GroupedLora, groups_of

IDS = [7, 9, None]
"""Of the adapters in three slots."""

INPUTS, SIZES, RANK, SCALE = 24, (16, 8), 4, 0.5


def added(kind: type[PunicaWrapperCPU], adapters: list[int], prefill: bool, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """What ``kind`` adds to a batch of one token of each of these adapters (0: none)."""
    random = torch.Generator().manual_seed(0)
    wrapper = kind(64, 8, "cpu")
    mapping = LoRAMapping(index_mapping=tuple(adapters), prompt_mapping=tuple(adapters), is_prefill=prefill)
    wrapper.update_metadata(mapping, IDS, len(IDS), 100)
    a = tuple(torch.randn(len(IDS), 1, RANK, INPUTS, generator=random).to(dtype) for _ in SIZES)
    b = tuple(torch.randn(len(IDS), 1, size, RANK, generator=random).to(dtype) for size in SIZES)
    x = torch.randn(len(adapters), INPUTS, generator=random).to(dtype)
    y = torch.ones(len(adapters), sum(SIZES), dtype=dtype)
    wrapper.add_lora_linear(y, x, a, b, SCALE, SIZES)
    return y - 1


@pytest.mark.parametrize("prefill", [True, False])
@pytest.mark.parametrize("adapters", [[7, 7, 7], [9, 7, 7, 9, 9], [9]])
def test_it_adds_what_vllms_own_adds(adapters: list[int], prefill: bool):
    wanted = added(PunicaWrapperCPU, adapters, prefill)
    assert wanted.abs().max() > 1
    assert torch.allclose(added(GroupedLora, adapters, prefill), wanted, atol=1e-5)


def test_in_bfloat16_it_is_as_near_to_the_truth_as_vllms_own():
    truth = added(PunicaWrapperCPU, [7, 9, 9], True)
    ours, theirs = (added(kind, [7, 9, 9], True, torch.bfloat16).float() for kind in (GroupedLora, PunicaWrapperCPU))
    assert 0 < (ours - truth).abs().max() <= (theirs - truth).abs().max()


@pytest.mark.parametrize("prefill", [True, False])
def test_a_token_without_an_adapter_gets_nothing(prefill: bool):
    own = added(GroupedLora, [7, 0, 9], prefill)
    assert own[1].eq(0).all()
    assert torch.allclose(own[[0, 2]], added(PunicaWrapperCPU, [7, 7, 9], prefill)[[0, 2]], atol=1e-5)
    assert added(GroupedLora, [0, 0, 0], prefill).eq(0).all()


def test_slots_are_asked_once_each_and_a_whole_batch_of_one_is_not_picked_apart():
    assert groups_of(torch.tensor([1, 1, 1])) == [(1, slice(None))]
    assert groups_of(torch.tensor([-1, -1])) == []
    assert [(slot, rows.tolist()) for slot, rows in groups_of(torch.tensor([2, -1, 0, 2]))] == [(0, [2]), (2, [0, 3])]


def test_vllm_runs_on_it():
    assert current_platform.is_cpu()
    assert current_platform.get_punica_wrapper() == f"{GroupedLora.__module__}.{GroupedLora.__name__}"
