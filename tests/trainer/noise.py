"""An adapter with an effect of no meaning."""

from __future__ import annotations

import torch

from trainer.policy import AdapterModel


def noisy(model: AdapterModel, name: str, seed: int = 0, size: float = 0.1) -> None:
    """Add normal noise of this size to the adapter's weights."""
    generator = torch.Generator().manual_seed(seed)
    for weight in model.weights(name).values():
        weight.add_(torch.randn(weight.shape, generator=generator) * size)
