"""Token sequences as tensors: prompt and response packed in one row, padded on the right, cut into groups for one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

GROUPS_WORTH = 16
SPREAD = 4
"""A pass through the model costs some time whatever is in it: on a CPU that of about 30 tokens of 500."""


@dataclass(frozen=True)
class TokenBatch:
    """B sequences, each a prompt followed by its response.

    tokens: (B, L) int64; row b holds prompt_lengths[b] prompt tokens, then response_lengths[b] response tokens, then
    padding. Under a causal mask nothing before the padding sees it, so no attention mask is needed.
    prompt_lengths, response_lengths: (B,) int64. Every prompt has at least one token; a response may be empty.
    T, wherever it appears, is the longest response of *this* batch.
    """

    tokens: Tensor
    prompt_lengths: Tensor
    response_lengths: Tensor

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2 or self.prompt_lengths.shape != self.tokens.shape[:1] != self.response_lengths.shape:
            raise ValueError(f"tokens {tuple(self.tokens.shape)} do not fit lengths of {tuple(self.prompt_lengths.shape)}")
        if len(self) and int(self.prompt_lengths.min()) < 1:
            raise ValueError("a prompt without tokens: the first response token would have nothing to follow")

    @classmethod
    def pack(cls, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], pad: int = 0) -> TokenBatch:
        """Row b = prompts[b] + responses[b]. The value of ``pad`` never matters; it only has to be a token."""
        rows = [[*p, *r] for p, r in zip(prompts, responses, strict=True)]
        width = max(map(len, rows), default=0)
        return cls(
            torch.tensor([row + [pad] * (width - len(row)) for row in rows], dtype=torch.long).reshape(len(rows), width),
            torch.tensor([len(p) for p in prompts], dtype=torch.long),
            torch.tensor([len(r) for r in responses], dtype=torch.long),
        )

    def __len__(self) -> int:
        return self.tokens.shape[0]

    @property
    def lengths(self) -> Tensor:
        """(B,) tokens of prompt and response together."""
        return self.prompt_lengths + self.response_lengths

    @property
    def longest_response(self) -> int:
        """T."""
        return int(self.response_lengths.max()) if len(self) else 0

    @property
    def response_mask(self) -> Tensor:
        """(B, T) bool, true on response tokens."""
        steps = torch.arange(self.longest_response, device=self.tokens.device)
        return steps[None, :] < self.response_lengths[:, None]

    @property
    def response_positions(self) -> Tensor:
        """(B, T) column in ``tokens`` of each response token; past the end of a row, its last token's column."""
        steps = torch.arange(self.longest_response, device=self.tokens.device)
        return (self.prompt_lengths[:, None] + steps).minimum(self.lengths[:, None] - 1)

    @property
    def responses(self) -> Tensor:
        """(B, T) response tokens; what stands past a response's end is arbitrary."""
        return self.tokens.gather(1, self.response_positions)

    def equals(self, other: TokenBatch) -> bool:
        """The same sequences in the same order; both on the same device."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("tokens", "prompt_lengths", "response_lengths"))
        return all(torch.equal(one, another) for one, another in pairs)

    def select(self, rows: Tensor | Sequence[int]) -> TokenBatch:
        """The named rows, without the columns that would be padding in all of them."""
        index = torch.as_tensor(rows, dtype=torch.long, device=self.tokens.device)
        lengths = self.lengths[index]
        width = int(lengths.max()) if len(index) else 0
        return TokenBatch(self.tokens[index, :width], self.prompt_lengths[index], self.response_lengths[index])

    def to(self, device: torch.device | str) -> TokenBatch:
        return TokenBatch(self.tokens.to(device), self.prompt_lengths.to(device), self.response_lengths.to(device))


def buckets(lengths: Tensor, token_budget: int) -> Iterator[Tensor]:
    """Row numbers in groups of like length, longest first, each of at most ``token_budget`` padded tokens or one row.

    lengths: (B,). Every row is in exactly one group. Of all such cuts it is the one with the least padding, where a group costs
    by itself as much as 1/`GROUPS_WORTH` of the budget in padding.
    """
    order = torch.argsort(lengths, descending=True, stable=True)
    widths = [max(1, width) for width in lengths[order].tolist()]
    least, starts = [0], [0]
    for stop in range(1, len(widths) + 1):
        costs = []
        for start in range(stop - 1, -1, -1):
            padded = widths[start] * (stop - start)
            if padded > token_budget and stop - start > 1:
                break
            costs.append((least[start] + padded + token_budget // GROUPS_WORTH, start))
        cost, start = min(costs)
        least.append(cost)
        starts.append(start)
    cuts = [len(widths)]
    while cuts[-1]:
        cuts.append(starts[cuts[-1]])
    for stop, start in zip(cuts[-2::-1], cuts[:0:-1], strict=True):
        yield order[start:stop]


def packs(lengths: Tensor, token_budget: int) -> Iterator[Tensor]:
    """Row numbers in groups, longest first, each of at most ``token_budget`` tokens without any padding, or one row.

    lengths: (B,). Every row is in exactly one group. Attention pads its own rows: with padding, too, a group has `SPREAD` times
    the budget at most.
    """
    order = torch.argsort(lengths, descending=True, stable=True)
    start, tokens, ordered = 0, 0, lengths[order].tolist()
    for stop, length in enumerate(ordered):
        padded = (stop + 1 - start) * ordered[start]
        if stop > start and (tokens + length > token_budget or padded > SPREAD * token_budget):
            yield order[start:stop]
            start, tokens = stop, 0
        tokens += length
    if len(order):
        yield order[start:]


def gathered(states: Tensor, positions: Tensor) -> Tensor:
    """(b, L, H) states at the positions (b, t): (b, t, H)."""
    return states.gather(1, positions[:, :, None].expand(-1, -1, states.shape[-1]))
