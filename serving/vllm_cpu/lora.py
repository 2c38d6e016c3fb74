"""LoRA on a CPU, adapter by adapter.

vLLM's own (`vllm.lora.ops.torch_ops.lora_ops`, 0.32) copies an adapter's matrices once for every token of a batch and multiplies
each token with its copy: a 135M model then writes a quarter to a third of the tokens that it writes without an adapter. Here a
batch's tokens are sorted by their adapters, and each adapter is one matrix product of a linear layer. Tokens without an adapter
are left alone; there they get that of the last slot. LoRA of embeddings and logits, which no adapter of ours has, is vLLM's.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

Group = tuple[int, Tensor | slice]
"""A slot, and which rows of the batch are its."""


def groups_of(slots: Tensor) -> list[Group]:
    """Of the slots of a batch's tokens (M,), -1 for none: each slot that is there, in order."""
    found = slots.unique().tolist()
    if len(found) == 1:
        return [(found[0], slice(None))] if found[0] >= 0 else []
    return [(slot, (slots == slot).nonzero()[:, 0]) for slot in found if slot >= 0]


class GroupedLora(PunicaWrapperCPU):
    """Products in float32, as vLLM's buffer between the two is; prefill and decoding are the same."""

    _groups: tuple[Group, ...] = ()

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        """What the next batch is made of."""
        super().update_metadata(*args, **kwargs)
        self._groups = tuple(groups_of(self.token_lora_indices))

    def _apply_shrink(self, y: Tensor, x: Tensor, w_t_all: Tensor, scale: float) -> None:
        """y (M, r) = scale · x (M, in) @ A of each row's slot; w_t_all: (slots, 1, r, in)."""
        for slot, rows in self._groups:
            y[rows] = scale * (x[rows].float() @ w_t_all[slot, 0].float().T)

    def _apply_expand(
        self, y: Tensor, x: Tensor, w_t_all: Tensor, y_offset: int, y_slice_size: int, add_inputs: bool = True
    ) -> None:
        """y[:, offset : offset + size] of (M, out) += x (M, r) @ B of each row's slot; w_t_all: (slots, 1, size, r)."""
        part = y[:, y_offset : y_offset + y_slice_size]
        for slot, rows in self._groups:
            found = (x[rows] @ w_t_all[slot, 0].float().T).to(y.dtype)
            part[rows] = part[rows] + found if add_inputs else found
