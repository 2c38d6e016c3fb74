"""Adapters for tests: small, complete, written with numpy only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from ops.registry import AdapterManifest, GateResult, Registry

CONFIG = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "bias": "none",
    "r": 8,
    "lora_alpha": 16,
    "lora_dropout": 0.0,
    "target_modules": ["q_proj"],
    "inference_mode": True,
}
MODULE = "base_model.model.model.layers.0.self_attn.q_proj"


def weights(seed: int = 0, rank: int = 8, dtype: str = "float32") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        f"{MODULE}.lora_A.weight": rng.normal(size=(rank, 4)).astype(dtype),
        f"{MODULE}.lora_B.weight": rng.normal(size=(4, rank)).astype(dtype),
    }


def write_lora(folder: Path, *, seed: int = 0, tensors: dict[str, np.ndarray] | None = None, **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | config))
    save_file(weights(seed) if tensors is None else tensors, folder / "adapter_model.safetensors")
    return folder


def publish(
    registry: Registry, staging: Path, *, parent: str = "base", passed: bool = True, project: str = "default", now: float = 1e6
) -> AdapterManifest:
    gate = GateResult(name="win_rate", passed=passed, value=0.6 if passed else 0.4, threshold=0.5)
    return registry.publish(
        staging, project=project, parent=parent, base_model="sha256:0", training={"seed": 0}, gates=[gate], now=now
    )
