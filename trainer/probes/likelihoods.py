"""How probable a model finds given words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.batches import TokenBatch
from trainer.policy import AdapterModel


@dataclass(frozen=True)
class Passage:
    """``tokens`` that follow ``context``; those are looked at whose place is ``counted``."""

    context: tuple[int, ...]
    tokens: tuple[int, ...]
    counted: tuple[bool, ...]

    def __post_init__(self) -> None:
        if not self.context or len(self.tokens) != len(self.counted):
            raise ValueError("a passage needs something before it, and for each token whether it counts")


@torch.no_grad()
def log_likelihoods(model: AdapterModel, adapter: str, passages: Sequence[Passage]) -> Tensor:
    """The sum over each passage's counted tokens of their log-probability, in nats: (B,) float64, on the CPU."""
    if not passages:
        return torch.zeros(0, dtype=torch.float64)
    batch = TokenBatch.pack([p.context for p in passages], [p.tokens for p in passages])
    logprobs = model.response_logprobs(adapter, batch).cpu().double()
    width = logprobs.shape[1]
    counted = torch.tensor([[*p.counted, *[False] * (width - len(p.counted))] for p in passages])
    return torch.where(counted, logprobs, 0.0).sum(1)


def nats_per_token(model: AdapterModel, adapter: str, passages: Sequence[Passage]) -> float | None:
    """The mean over all counted tokens of -log p; None without any. Its exponential is the perplexity."""
    count = sum(sum(passage.counted) for passage in passages)
    return -float(log_likelihoods(model, adapter, passages).sum()) / count if count else None
