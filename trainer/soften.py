"""An adapter that has gone too far goes part of the way back.

Linear interpolation towards the initialization (WARP: Ramé et al. 2024, arXiv:2406.16768, section 3.3; WiSE-FT, Wortsman et al.
2022, of classifiers): on the way back what was forgotten, or only pleases the reward model, goes sooner than what was learnt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp

import torch
from torch import Tensor

from trainer.policy import BASE, AdapterModel
from trainer.probes.likelihoods import Passage, nats_per_token

LEAST = 0.5
"""An adapter that has to give up more than half of itself has learnt something else than what was asked for."""

HALVINGS = 5
"""The factor is found to 1/64."""


def interpolate(model: AdapterModel, adapter: str, start: Mapping[str, Tensor], share: float) -> None:
    """Keep ``share`` (0 to 1; 1 changes nothing) of what became of ``adapter`` since its weights were ``start``, in place."""
    for key, weight in model.weights(adapter).items():
        weight.copy_(torch.lerp(start[key], weight, share))


def soften(model: AdapterModel, adapter: str, passages: Sequence[Passage], most: float) -> float:
    """Scale ``adapter`` in place until its perplexity on ``passages`` is at most ``most`` times the base's; the factor.

    1, and nothing is changed, where it need not be, where `LEAST` would not do either, and without passages.
    """
    base = nats_per_token(model, BASE, passages)
    if base is None:
        return 1.0
    matrices = {key: weight for key, weight in model.weights(adapter).items() if "lora_B" in key}  # the update is linear in them
    learnt = {key: weight.clone() for key, weight in matrices.items()}

    def enough(factor: float) -> bool:
        _set(matrices, learnt, factor)
        return exp(min(nats_per_token(model, adapter, passages) - base, 100.0)) <= most

    if enough(1.0):
        return 1.0
    low, high = LEAST, 1.0
    if not enough(low):
        _set(matrices, learnt, 1.0)
        return 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if enough(middle) else (low, middle)
    _set(matrices, learnt, low)
    return low


def _set(matrices: dict[str, Tensor], learnt: dict[str, Tensor], factor: float) -> None:
    for key, weight in matrices.items():
        weight.copy_(learnt[key] * factor)
