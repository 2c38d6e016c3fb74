"""An adapter as files: ``adapter_config.json`` and ``adapter_model.safetensors``, as PEFT and vLLM read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ops.errors import CommandError

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


class AdapterFileError(CommandError, ValueError):
    """A folder that holds no adapter, or one that does not fit the model; the message names the field and its value."""


@dataclass(frozen=True)
class AdapterFiles:
    """Plain LoRA: no DoRA, no rsLoRA, no biases, no other saved modules. ``weights`` are under PEFT's names."""

    rank: int
    alpha: int
    target_modules: tuple[str, ...]
    weights: dict[str, Tensor]

    def write(self, folder: Path) -> None:
        """The same adapter gives the same bytes: the configuration names no path, and everything is sorted."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": None,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "lora_alpha": self.alpha,
            "lora_dropout": 0.0,
            "modules_to_save": None,
            "r": self.rank,
            "target_modules": sorted(self.target_modules),
            "use_dora": False,
            "use_rslora": False,
        }
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        tensors = {key: value.float().cpu().contiguous() for key, value in sorted(self.weights.items())}
        save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})

    @classmethod
    def read(cls, folder: Path, target_modules: Sequence[str]) -> AdapterFiles:
        """Raises `AdapterFileError` unless it is plain LoRA on exactly these modules."""
        try:
            config = json.loads((folder / CONFIG_FILE).read_text())
            weights = load_file(folder / WEIGHTS_FILE)
        except (OSError, ValueError, SafetensorError) as error:
            raise AdapterFileError(f"no adapter in {folder}: {error}") from error
        wanted = {"peft_type": "LORA", "use_dora": False, "use_rslora": False, "bias": "none", "modules_to_save": None}
        for field, value in wanted.items():
            if config.get(field, value) != value:
                raise AdapterFileError(f"{folder}: {field}={config[field]!r}, only {value!r} is taken")
        modules = tuple(sorted(config["target_modules"]))
        if modules != tuple(sorted(target_modules)):
            raise AdapterFileError(f"{folder}: target_modules={modules}, the model has {tuple(sorted(target_modules))}")
        return cls(int(config["r"]), int(config["lora_alpha"]), modules, weights)
