"""The adapter without effect: zeros, of the shapes of the model it is written for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from serving.null_adapter import NoLinearLayer, write_null_adapter


def model(folder: Path, **tensors: tuple[int, ...]) -> Path:
    """A model's folder with these tensors (dots for double underscores), over two files."""
    folder.mkdir()
    named = {name.replace("__", "."): np.ones(shape, np.float32) for name, shape in tensors.items()}
    save_file({"model.norm.weight": np.ones(6, np.float32)}, folder / "model-00001-of-00002.safetensors")
    save_file(named, folder / "model-00002-of-00002.safetensors")
    return folder


def test_it_is_a_rank_1_lora_of_zeros_on_the_first_layers_query_projection(tmp_path):
    llama = model(
        tmp_path / "model",
        model__layers__0__self_attn__k_proj__weight=(4, 6),
        model__layers__0__self_attn__q_proj__weight=(8, 6),
        model__layers__10__self_attn__q_proj__weight=(9, 9),
    )
    folder = write_null_adapter(llama, tmp_path / "run" / "null")
    tensors = load_file(folder / "adapter_model.safetensors")
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        f"{module}.lora_A.weight": (1, 6),
        f"{module}.lora_B.weight": (8, 1),
    }
    assert all(tensor.dtype == np.float32 and not tensor.any() for tensor in tensors.values())
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["target_modules"], config["bias"]) == ("LORA", 1, ["q_proj"], "none")


def test_writing_it_again_for_another_model_replaces_it(tmp_path):
    for name, width in (("small", 2), ("large", 5)):
        write_null_adapter(model(tmp_path / name, model__layers__0__self_attn__q_proj__weight=(width, width)), tmp_path / "null")
    tensors = load_file(tmp_path / "null" / "adapter_model.safetensors")
    assert sorted(tensor.shape for tensor in tensors.values()) == [(1, 5), (5, 1)]


def test_a_model_without_such_a_layer_is_refused_by_its_path(tmp_path):
    other = model(tmp_path / "model", transformer__h__0__attn__c_attn__weight=(4, 6))
    with pytest.raises(NoLinearLayer, match=str(other)):
        write_null_adapter(other, tmp_path / "null")
    assert not (tmp_path / "null").exists()
