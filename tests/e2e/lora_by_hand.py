"""LoRA adapters in PEFT's format, written without PEFT: random weights, so that each answers in its own way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

TARGETS = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")


def write_adapter(
    folder: Path,
    model: Path,
    *,
    seed: int,
    rank: int = 8,
    scale: float = 1.0,
    prefix: str = "base_model.model.model.layers",
    fill: float | None = None,
) -> Path:
    """An adapter for the Llama in ``model``: A ~ N(0, 1/in), B ~ scale·N(0, 1/rank); ``fill`` overrides every weight of B.

    A wrong ``prefix`` names modules that the model does not have; ``fill=nan`` poisons it.
    """
    config = json.loads((model / "config.json").read_text())
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head_dim = config.get("head_dim") or hidden // heads
    wide, inner = heads * head_dim, config["intermediate_size"]
    keys = config.get("num_key_value_heads", heads) * head_dim
    shapes = {
        "self_attn.q_proj": (wide, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, wide),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    random = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for layer in range(config["num_hidden_layers"]):
        for module, (outputs, inputs) in shapes.items():
            name = f"{prefix}.{layer}.{module}"
            tensors[f"{name}.lora_A.weight"] = (random.standard_normal((rank, inputs)) / inputs**0.5).astype(np.float32)
            b = (scale * random.standard_normal((outputs, rank)) / rank**0.5).astype(np.float32)
            tensors[f"{name}.lora_B.weight"] = b if fill is None else np.full_like(b, fill)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "",
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(TARGETS),
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder
