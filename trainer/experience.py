"""One batch of rollouts with all that an update needs of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from trainer.batches import TokenBatch

Groups = Callable[[Tensor], Iterable[Tensor]]
"""Of lengths (B,): row numbers in groups, see `trainer.policy.AdapterModel.groups`."""


@dataclass(frozen=True)
class Experience:
    """B sequences; tensors (B, T), on the model's device.

    old_logprobs: the policy's own, in nats, before the update. weights: of each token in the policy's loss; None when the
    sampler gave no logprobs. values, returns: None without a critic; values also while it warms up. base_states: (B, T, H), see
    `trainer.policy.BaseView`; None where nothing but the reward holds the policy to the base.
    """

    batch: TokenBatch
    old_logprobs: Tensor
    advantages: Tensor
    weights: Tensor | None = None
    values: Tensor | None = None
    returns: Tensor | None = None
    base_states: Tensor | None = None

    @property
    def mask(self) -> Tensor:
        return self.batch.response_mask

    def to_state(self) -> dict[str, Tensor | None]:
        """All of it as tensors by name."""
        batch = {field.name: getattr(self.batch, field.name) for field in fields(self.batch)}
        return batch | {field.name: getattr(self, field.name) for field in fields(self) if field.name != "batch"}

    @classmethod
    def from_state(cls, state: dict[str, Tensor | None], device: torch.device) -> Experience:
        """What `to_state` gave, on that device."""
        tensors = {name: None if tensor is None else tensor.to(device) for name, tensor in state.items()}
        batch = TokenBatch(**{field.name: tensors.pop(field.name) for field in fields(TokenBatch)})
        return cls(batch, **tensors)

    def select(self, rows: Tensor) -> Experience:
        """The named rows, cut to their own longest response."""
        batch = self.batch.select(rows)

        def cut(tensor: Tensor) -> Tensor:
            return tensor[rows, : batch.longest_response]

        optional = (None if each is None else cut(each) for each in (self.weights, self.values, self.returns, self.base_states))
        return Experience(batch, cut(self.old_logprobs), cut(self.advantages), *optional)

    def minibatches(self, count: int, random: torch.Generator) -> Iterator[Experience]:
        """All rows once, in a random order, in at most ``count`` parts of like size."""
        order = torch.randperm(len(self.batch), generator=random)
        for rows in order.chunk(min(count, len(order))):
            yield self.select(rows.to(self.batch.tokens.device))

    def passes(self, groups: Groups, rank: int = 0, size: int = 1) -> Iterator[tuple[Experience, float]]:
        """Parts for a pass each, as ``groups`` cuts rows by their lengths, with each one's share of the response tokens.

        A mean over all response tokens is the sum of the parts' means times their shares. Of ``size`` processes each, by its
        ``rank``, gets other rows, about as many tokens as the others.
        """
        total = max(1, int(self.batch.response_lengths.sum()))
        own = self if size == 1 else self.select(torch.argsort(self.batch.lengths, descending=True, stable=True)[rank::size])
        for rows in groups(own.batch.lengths):
            part = own.select(rows)
            yield part, int(part.batch.response_lengths.sum()) / total
