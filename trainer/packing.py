"""Sequences of different lengths in one pass without padding: all in one row, and apart from each other in attention only.

The linear layers, where nearly all the work is, see tokens and nothing else. Attention gets the sequences in rows of their own,
padded on the right, and gives them back: whatever kernel PyTorch has for causal attention will do, and no mask is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "packed"
"""In transformers' register of ways to attend."""

_ROUNDING, _ROUNDING_ELSE = {torch.float32: 1e-3}, 0.05
"""Of the states' norm: what another order of adding up may change; in bfloat16 more."""


@dataclass(frozen=True)
class Layout:
    """Where N tokens of B sequences stand in rows of the longest one's length L.

    places: (N,) int64, row · L + column. columns: (N,) int64, each token's position in its sequence.
    """

    places: Tensor
    columns: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, lengths: Tensor) -> Layout:
        """lengths: (B,)"""
        width = int(lengths.max())
        rows, columns = (torch.arange(width, device=lengths.device) < lengths[:, None]).nonzero(as_tuple=True)
        return cls(rows * width + columns, columns, (len(lengths), width))

    def spread(self, packed: Tensor) -> Tensor:
        """(N, ...) as (B, L, ...), 0 past a sequence's end."""
        flat = packed.new_zeros(self.shape[0] * self.shape[1], *packed.shape[1:])
        return flat.index_copy(0, self.places, packed).view(*self.shape, *packed.shape[1:])

    def packed(self, spread: Tensor) -> Tensor:
        """(B, L, ...) as (N, ...): what `spread` makes, undone."""
        return spread.flatten(0, 1).index_select(0, self.places)


@torch.no_grad()
def can_pack(model: PreTrainedModel) -> bool:
    """Whether the model attends in our way when it is asked to; what looks back only so far, or attends otherwise, does not."""
    config = model.config.get_text_config()
    if getattr(config, "sliding_window", None) is not None:
        return False
    tokens = torch.arange(12, device=model.device).view(3, 4) % config.vocab_size
    plain = model.get_decoder()(input_ids=tokens, use_cache=False).last_hidden_state
    packed, others = (states(model, each, torch.full((3,), 4, device=model.device)) for each in (tokens, tokens.flip(0)))
    alone = torch.equal(packed[1], others[1])  # whoever attends to its neighbours too notices that they have changed places
    return alone and bool((packed - plain).norm() <= _ROUNDING.get(plain.dtype, _ROUNDING_ELSE) * plain.norm())


def states(model: PreTrainedModel, tokens: Tensor, lengths: Tensor) -> Tensor:
    """The decoder's last states (B, L, H) of B sequences (B, L) of ``lengths`` (B,), L the longest; 0 past a sequence's end."""
    layout = Layout.of(lengths)
    tokens, columns = layout.packed(tokens)[None], layout.columns[None]
    with _attending(model):
        found = model.get_decoder()(input_ids=tokens, position_ids=columns, use_cache=False, layout=layout)
    return layout.spread(found.last_hidden_state[0])


@contextmanager
def _attending(model: PreTrainedModel) -> Iterator[None]:
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, *, layout: Layout, **options: Any
) -> tuple[Tensor, None]:
    """query, key and value: (1, heads, N, D); the answer (1, N, heads, D)."""
    rows = (layout.spread(each[0].transpose(0, 1)).transpose(1, 2) for each in (query, key, value))
    said, _ = sdpa_attention_forward(module, *rows, None, is_causal=True, **options)
    return layout.packed(said)[None], None


AttentionInterface.register(NAME, _attention)
