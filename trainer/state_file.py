"""Nested dicts and lists of tensors and plain values as one safetensors file: the state of optimizers, without pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load, save, save_file
from torch import Tensor

_STATE = "state"


def write_state(path: Path, state: Any) -> None:
    """The same state, the same bytes. Raises TypeError for what is no dict, list, tuple, tensor, string, number or None."""
    tensors: dict[str, Tensor] = {}
    outline = json.dumps(_outline(state, tensors))
    save_file(tensors, path, metadata={_STATE: outline})


def read_state(path: Path) -> Any:
    """What was written, on the CPU; tuples come back as lists."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        return _filled(json.loads(file.metadata()[_STATE]), tensors)


def packed(state: Any) -> bytes:
    """As `write_state`, for who has no file."""
    tensors: dict[str, Tensor] = {}
    outline = json.dumps(_outline(state, tensors)).encode()
    return save(tensors | {_STATE: torch.frombuffer(bytearray(outline), dtype=torch.uint8)})


def unpacked(content: bytes) -> Any:
    """What `packed` was given, on the CPU; tuples come back as lists."""
    tensors = load(content)
    return _filled(json.loads(tensors.pop(_STATE).numpy().tobytes()), tensors)


def _outline(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON in which a tensor is a name, and a dict is a list of its items: its keys may be numbers."""
    if isinstance(value, Tensor):
        name = f"{len(tensors):06d}"
        tensors[name] = value.detach().cpu().contiguous().clone()  # two that share memory cannot be written
        return {"tensor": name}
    if isinstance(value, dict):
        return {"items": [[key, _outline(each, tensors)] for key, each in value.items()]}
    if isinstance(value, list | tuple):
        return [_outline(each, tensors) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__}: a state is made of dicts, lists, tensors, strings, numbers and None")


def _filled(outline: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(outline, list):
        return [_filled(each, tensors) for each in outline]
    if isinstance(outline, dict):
        if "tensor" in outline:
            return tensors[outline["tensor"]]
        return {key: _filled(each, tensors) for key, each in outline["items"]}
    return outline
