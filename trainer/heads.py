"""Several linear heads on one trunk, each of which has learnt from a sample of the votes of its own: how far they are apart is
how much the votes leave open.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainer.examples import Example, unit_interval
from trainer.surprise import COUNT

HEADS = 3

PENALTY, SURPRISE_PENALTY = 50.0, 3.0
"""Of half a squared weight, in nats: what a state's coordinate has to be worth, and what a surprise (see `trainer.surprise`)."""


class Heads(nn.Module):
    """Scores from readings: the mean state of an answer (H numbers), its form if that is read (see `trainer.frozen`), then its
    `COUNT` surprises, all in standard deviations of those first learnt from. Scores are 0 until something has been learnt.
    """

    mean: Tensor
    std: Tensor
    strength: Tensor
    """(K, 2) how many times the priors below: of states, of surprises."""

    def __init__(self, hidden_size: int, count: int = HEADS, form: int = 0) -> None:
        super().__init__()
        size = hidden_size + form + COUNT
        self._parts = (hidden_size, form, COUNT)
        self.weight = nn.Parameter(torch.zeros(count, size))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.zeros(size))
        self.register_buffer("strength", torch.ones(count, 2))

    def others(self, count: int) -> Heads:
        """``count`` heads on the same readings with the priors of the first of these; they have learnt nothing."""
        hidden_size, form, _ = self._parts
        heads = Heads(hidden_size, count, form)
        heads.strength.copy_(self.strength[:1].expand(count, -1))
        return heads

    def hold(self, states: float, surprises: float) -> None:
        """Make the priors so many times as strong, for all heads."""
        self.strength.copy_(self.strength.new_tensor([states, surprises]))

    def measure(self, readings: Tensor) -> None:
        """Take the scale from these answers' readings (R, F), unless there is one."""
        if len(readings) > 1 and not self.std.any():
            self.mean.copy_(readings.mean(0))
            self.std.copy_(readings.std(0).clamp(min=1e-3))

    def forward(self, readings: Tensor) -> Tensor:
        """(R, F) to (R, K)."""
        return ((readings - self.mean) / torch.where(self.std > 0, self.std, 1)) @ self.weight.T

    def penalty(self) -> Tensor:
        """(K,) nats: a normal prior on the weights. That of the form is a surprise's, and never stronger."""
        states, form, surprises = ((part**2).sum(1) for part in self.weight.split(self._parts, 1))
        both = torch.stack([PENALTY * states, SURPRISE_PENALTY * surprises], 1)
        return ((self.strength * both).sum(1) + SURPRISE_PENALTY * form) / 2


def bootstrap(examples: Sequence[Example], count: int = HEADS) -> Tensor:
    """(N, K): how often each head takes each example. Each one is left out of one head, by a hash of the vote's id and nothing
    else, so that a vote that is learnt from again is left out of the same one; weights have mean 1.

    Balanced resampling (Davison, Hinkley & Schechtman 1986, doi:10.1093/biomet/73.3.555): every vote counts as much as any other
    in the heads' mean. Independent Poisson weights cost half a point to a point of accuracy (starter model, 50 to 800 votes).
    """
    left_out = torch.tensor([int(unit_interval("head", example.feedback_id) * count) for example in examples], dtype=torch.long)
    takes = torch.full((len(examples), count), count / (count - 1))
    takes[torch.arange(len(examples)), left_out] = 0
    return takes
