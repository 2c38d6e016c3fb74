"""An adapter that has forgotten is weakened: scaled towards the base, no further than what it had forgotten needs to come back.

The linear interpolation towards the initialization of WARP (Ramé et al. 2024, arXiv:2406.16768, section 3.3), as WiSE-FT has it
for classifiers (Wortsman et al. 2022): on the way back what was forgotten returns sooner than what was learnt goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

import torch

from trainer.policy import AdapterModel
from trainer.probes.likelihoods import Passage, nats_per_token

LEAST = 0.5
"""An adapter that has to give up more than half of itself has learnt something else than what was asked for."""

HALVINGS = 5
"""The factor is found to 1/64."""


def soften(model: AdapterModel, adapter: str, passages: Sequence[Passage], most: float) -> float:
    """Scale ``adapter`` in place until its perplexity on ``passages`` is at most ``most`` times the base's; the factor.

    1, and nothing is changed, where it need not be, where `LEAST` would not do either, and without passages.
    """
    base = nats_per_token(model, "base", passages)
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


def _set(matrices: dict[str, torch.Tensor], learnt: dict[str, torch.Tensor], factor: float) -> None:
    for key, weight in matrices.items():
        weight.copy_(learnt[key] * factor)
