"""Is every weight a number? vLLM would load an adapter of NaNs and serve noise."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ops.registry import GateResult


def finite_weights(weights: Mapping[str, Tensor]) -> GateResult:
    """The share of finite weights, which has to be 1; without any weight it is 0."""
    count = sum(tensor.numel() for tensor in weights.values())
    finite = sum(int(torch.isfinite(tensor).sum()) for tensor in weights.values())
    share = finite / count if count else 0.0
    return GateResult(
        name="finite_weights", passed=share == 1.0, value=share, threshold=1.0, detail=f"{finite} of {count} weights"
    )
