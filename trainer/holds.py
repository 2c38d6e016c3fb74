"""What holds a policy to its base beside the reward: terms of the loss, each a mean over the response's tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ops.settings import PpoSettings
from trainer.batches import TokenBatch
from trainer.policy import AdapterModel
from trainer.vocabulary import picked, sharp_kl, unlikely


@dataclass(frozen=True)
class Hold:
    metric: str
    coef: float
    nats: Callable[[Tensor, Tensor], Tensor]
    """(N,) of the policy's log-probabilities (N, V) and the base's logits (N, V)."""


def holds_of(settings: PpoSettings) -> tuple[Hold, ...]:
    """Those with a coefficient: what costs nothing is not computed, and cannot make the loss infinite."""
    sharp = partial(sharp_kl, temperature=settings.sharp_temperature, most_entropy=settings.sharp_entropy)
    every = (
        Hold("policy/unlikely", settings.unlikely_coef, partial(unlikely, min_p=settings.min_p)),
        Hold("policy/sharp_kl", settings.sharp_kl_coef, sharp),
    )
    return tuple(hold for hold in every if hold.coef)


def logprobs_and_nats(
    model: AdapterModel, name: str, batch: TokenBatch, base_states: Tensor, holds: Sequence[Hold]
) -> tuple[Tensor, list[Tensor]]:
    """The response tokens' log-probabilities, and the nats of each hold by the base, whose states (B, T, H) are given: (B, T)
    each, 0 past a response's end.
    """
    found = [torch.zeros(len(batch), batch.longest_response, device=model.device) for _ in range(1 + len(holds))]
    for where, tokens, states in model.foretold(name, batch.to(model.device)):
        logs = model.logits(states).log_softmax(-1)  # (N, V), N response tokens
        with torch.no_grad():
            base_logits = model.logits(base_states[where])
        new = picked(logs, tokens), *(hold.nats(logs, base_logits) for hold in holds)
        found = [values.index_put(where, own) for values, own in zip(found, new, strict=True)]
    return found[0], found[1:]
