"""What the base model itself thinks of an answer: how unlikely it finds the words, and the least likely one of them.

A wrong result or a broken sentence is a surprise, and that takes no votes to know: on the starter model these four numbers beside
the states halve the errors of a reward model that has seen 200 votes (0.82 to 0.92 of gold preferences, logistic regression).
"""

from __future__ import annotations

import torch
from torch import Tensor

from feedback.events import BASE
from trainer.batches import TokenBatch
from trainer.policy import AdapterModel
from trainer.vocabulary import entropy, picked

COUNT = 4
"""Mean and least of a token's log-probability, and both of its excess: log-probability plus the entropy of its place."""


@torch.no_grad()
def readings(model: AdapterModel, batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """The base's mean state over an answer's tokens (B, H), and its surprises (B, `COUNT`) in nats; float32, 0 for an empty
    answer. The base is frozen, so these never change.
    """
    states = torch.zeros(len(batch), model.hidden_size, device=model.device)
    logs = torch.zeros(len(batch), COUNT, device=model.device)
    for rows, part, hidden in model.response_windows(BASE, batch.to(model.device)):
        mask = part.response_mask
        count = mask.sum(1).clamp(min=1)[:, None]
        states[rows] = torch.where(mask[:, :, None], hidden[:, 1:].float(), 0).sum(1) / count
        logs[rows] = surprises_of(model, part, hidden[:, :-1], mask)
    return states, logs


def surprises(model: AdapterModel, batch: TokenBatch) -> Tensor:
    """(B, `COUNT`), see `readings`. Its pass through the base is shared, see `AdapterModel.base_view`."""
    batch = batch.to(model.device)
    if not batch.longest_response:
        return torch.zeros(len(batch), COUNT, device=model.device)
    said = model.base_view(batch)
    return _columns(said.logprobs, said.entropies, batch.response_mask)


def surprises_of(model: AdapterModel, part: TokenBatch, before: Tensor, mask: Tensor) -> Tensor:
    """(b, `COUNT`) from the states (b, t, H) that each token is foretold from. mask: (b, t)."""
    logs = model.logits(before[mask]).log_softmax(-1)  # (N, V), N response tokens
    logprobs, entropies = torch.zeros_like(mask, dtype=torch.float32), torch.zeros_like(mask, dtype=torch.float32)
    logprobs[mask] = picked(logs, part.responses[mask])
    entropies[mask] = entropy(logs)
    return _columns(logprobs, entropies, mask)


def _columns(logprobs: Tensor, entropies: Tensor, mask: Tensor) -> Tensor:
    """(B, `COUNT`) from (B, T), of which only what the mask has counts."""
    count = mask.sum(1).clamp(min=1)
    columns = []
    for values in (logprobs, logprobs + entropies):
        columns += [torch.where(mask, values, 0).sum(1) / count, torch.where(mask, values, torch.inf).amin(1)]
    return torch.where(mask.any(1)[:, None], torch.stack(columns, 1), 0)
