"""The model to train, as the settings have it."""

from __future__ import annotations

import torch
from transformers import AutoConfig

from ops.models import ModelRef
from ops.settings import Settings
from trainer.policy import AdapterModel


def load_model(settings: Settings, ref: ModelRef) -> AdapterModel:
    """On the GPU if there is one, in the precision of the model's own configuration, float32 where it names none.

    Raises `trainer.policy.ModelUnsupported`.
    """
    return AdapterModel.load(
        ref.path,
        rank=settings.train.lora_rank,
        alpha=settings.train.lora_alpha,
        dtype=dtype_of(ref.path),
        device="cuda" if torch.cuda.is_available() else "cpu",
        seed=settings.seed,
    )


def dtype_of(path: str) -> torch.dtype:
    """What the configuration of the model in folder ``path`` says, float32 where it says nothing."""
    return AutoConfig.from_pretrained(path, local_files_only=True).dtype or torch.float32
