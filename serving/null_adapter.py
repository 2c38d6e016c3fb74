"""An adapter that changes nothing, under which a CPU engine serves the base.

vLLM's LoRA on a CPU looks weights up by slot, and a request without an adapter has slot -1: Python's last one. In a batch
with adapters, such a request is answered with whatever adapter lies in the last slot
(vllm/lora/ops/torch_ops/lora_ops.py, 0.32). With this adapter, no request is without one, also in an engine that leaves our own
LoRA out (`serving.vllm_cpu`).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import structlog
from safetensors import safe_open

from ops.models import ModelNotPrepared, prepared
from ops.settings import Settings
from serving.engine_command import EngineNotInstalled, installed_device

_log = structlog.get_logger(__name__)

NULL = "plaudit-null"

_LAYER = ".layers.0."


class NoLinearLayer(ValueError):
    """The model's folder shows no linear layer that an adapter could be on."""


def null_adapter_of(settings: Settings) -> Path | None:
    """The folder of the adapter that stands for the base, written now; None where the engines need none.

    Engines elsewhere are taken to need none, unless they listen on this machine's Unix sockets: set
    ``engine.null_adapter`` for those that compute on a CPU and see our data folder.
    """
    try:
        wanted = settings.engine.null_adapter
        near = all(url.startswith("unix:") for url in settings.engines) and installed_device() == "cpu"
        if wanted == "off" or (wanted == "auto" and not near):
            return None
        return write_null_adapter(Path(prepared(settings).path), settings.run_dir.absolute() / NULL)
    except (EngineNotInstalled, ModelNotPrepared, NoLinearLayer) as error:
        _log.warning("base_served_plainly", reason=str(error))
        return None


def write_null_adapter(model: Path, folder: Path) -> Path:
    """Write to ``folder``, in PEFT's layout, a LoRA of rank 1 and zeros on one linear layer of the model in ``model``."""
    import numpy as np  # many megabytes, for gateways beside a CPU engine alone
    from safetensors.numpy import save_file

    name, (outputs, inputs) = _linear_layer(model)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 1,
        "lora_alpha": 1,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": [name.rpartition(".")[2]],
    }
    tensors = {
        f"base_model.model.{name}.lora_A.weight": np.zeros((1, inputs), np.float32),
        f"base_model.model.{name}.lora_B.weight": np.zeros((outputs, 1), np.float32),
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")  # which replaces the file as a whole
    draft = folder / f"adapter_config.{os.getpid()}"
    draft.write_text(json.dumps(config))
    draft.rename(folder / "adapter_config.json")
    return folder


def _linear_layer(model: Path) -> tuple[str, tuple[int, int]]:
    """Path and shape (outputs, inputs) of a query projection of the first layer."""
    for file in sorted(model.glob("*.safetensors")):
        with safe_open(file, framework="numpy") as tensors:
            for key in tensors.keys():  # noqa: SIM118 (not a mapping)
                if _LAYER in key and key.endswith("q_proj.weight"):
                    outputs, inputs = tensors.get_slice(key).get_shape()
                    return key.removesuffix(".weight"), (outputs, inputs)
    raise NoLinearLayer(f"{model}: no tensor named …{_LAYER}….q_proj.weight")
