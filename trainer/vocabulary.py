"""Mathematics over a whole vocabulary: log-probabilities of tokens, entropies, and what holds a policy to its base. Pure."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def picked(logs: Tensor, tokens: Tensor) -> Tensor:
    """(N,) of the log-probabilities (N, V), those of the tokens (N,)."""
    return logs.gather(1, tokens[:, None])[:, 0]


def entropy(logs: Tensor) -> Tensor:
    """(N,) nats, of the distributions whose log-probabilities are (N, V)."""
    return -(logs.exp() * logs).sum(-1)


def unlikely(logs: Tensor, base_logits: Tensor, *, min_p: float) -> Tensor:
    """(N,) nats, of distributions with log-probabilities (N, V): minus the logarithm of what they give to the tokens that the
    base, with logits (N, V), holds at least ``min_p`` times as likely as its likeliest one.

    All others are what min-p sampling from the base would never draw (Nguyen et al. 2024, arXiv:2407.01082). Less of it also
    sharpens: of the tokens that are kept, its gradient lifts the likeliest most.
    """
    with torch.no_grad():
        cut = base_logits < base_logits.amax(-1, keepdim=True) + math.log(min_p)
    return -logs.masked_fill(cut, -math.inf).logsumexp(-1)


def sharp_kl(logs: Tensor, base_logits: Tensor, *, temperature: float, most_entropy: float) -> Tensor:
    """(N,) nats: the KL of distributions with log-probabilities (N, V) from the base's at ``temperature``.

    0 where the base's entropy (at temperature 1) is above ``most_entropy`` nats.
    """
    with torch.no_grad():
        sure = entropy(base_logits.log_softmax(-1)) <= most_entropy
        sharp = (base_logits / temperature).log_softmax(-1)
    return (logs.exp() * (logs - sharp)).sum(-1) * sure
