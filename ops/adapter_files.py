"""Is this folder an adapter that vLLM may be given? Every check names the file and the field it refuses.

vLLM itself loads an all-NaN adapter, follows links and unpickles; so nothing reaches it that has not passed here.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors

from ops.settings import VLLM_RANKS

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
MANIFEST_FILE = "manifest.json"
ADAPTER_FILES = (CONFIG_FILE, WEIGHTS_FILE)

MAX_BYTES = {CONFIG_FILE: 1 << 20, WEIGHTS_FILE: 2 << 30, MANIFEST_FILE: 16 << 20}

MAX_UPDATE_NORM = 1e4
"""Bound on (alpha / r) * |A| * |B|, Frobenius norms, for each module: it bounds the norm of the change to its weights."""

_NOT_A_FILE = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.EACCES)

_KEY = re.compile(r"base_model\.model\.(?P<module>[A-Za-z0-9_.]+)\.lora_(?P<side>[AB])\.weight")
_MODULE = re.compile(r"[A-Za-z0-9_.]{1,200}")


class AdapterRefused(Exception):
    """An adapter that must not be served. ``field`` names the file, and the field in it where there is one."""

    status = 422
    code = "adapter_refused"

    def __init__(self, adapter: str, field: str, reason: str) -> None:
        super().__init__(f"adapter {adapter}: {field}: {reason}")
        self.adapter, self.field, self.reason = adapter, field, f"{field}: {reason}"


@dataclass(frozen=True)
class AdapterShape:
    """What of a configuration decides how the weights are used."""

    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    rank_stabilised: bool

    @property
    def scale(self) -> float:
        """Factor of B A in the forward pass: alpha / r, or alpha / sqrt(r) when rank-stabilised."""
        return self.alpha / (self.rank**0.5 if self.rank_stabilised else self.rank)


def check_listing(folder: Path) -> None:
    """Raises `AdapterRefused` unless the folder is real and holds the three files, regular ones, and nothing else."""
    id = folder.name
    if folder.is_symlink():
        raise AdapterRefused(id, "folder", "is a symbolic link")
    if not folder.is_dir():
        raise LookupError(f"adapter {id!r}: there is none in {folder.parent}")
    found = {entry.name: entry for entry in os.scandir(folder)}
    for name, entry in sorted(found.items()):
        if entry.is_symlink():
            raise AdapterRefused(id, name, "is a symbolic link")
        if name not in MAX_BYTES:
            raise AdapterRefused(id, name, "is not listed: only the configuration, the safetensors and the manifest may be here")
    for name in MAX_BYTES:
        if name not in found:
            raise AdapterRefused(id, name, "is missing")


def read_file(folder: Path, name: str) -> bytes:
    """A regular file's bytes. Raises `AdapterRefused` for a link, a directory or device, or one that is too large.

    A disk that fails says nothing about the adapter: that is an OSError.
    """
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno not in _NOT_A_FILE:
            raise
        raise AdapterRefused(folder.name, name, f"cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise AdapterRefused(folder.name, name, "is not a regular file")
        if facts.st_size > MAX_BYTES[name]:
            raise AdapterRefused(folder.name, name, f"has {facts.st_size} bytes, more than {MAX_BYTES[name]}")
        return file.read()


def read_json(folder: Path, name: str, data: bytes) -> dict[str, Any]:
    """A JSON object. Raises `AdapterRefused`."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise AdapterRefused(folder.name, name, f"is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise AdapterRefused(folder.name, name, "is not a JSON object")
    return value


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1e6


def _modules(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(m, str) and _MODULE.fullmatch(m) for m in value)


def _text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= 4096)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _off(value: Any) -> bool:
    """A feature that is not used, as PEFT writes it."""
    return value is None or value is False or value == [] or value == {}


_ALLOWED: dict[str, Callable[[Any], bool]] = {
    "peft_type": lambda value: value == "LORA",
    "task_type": lambda value: value in (None, "CAUSAL_LM"),
    "bias": lambda value: value == "none",
    "r": lambda value: type(value) is int and value in VLLM_RANKS,
    "lora_alpha": _number,
    "target_modules": _modules,
    "lora_dropout": lambda value: value == 0 or (_number(value) and value < 1),
    "base_model_name_or_path": _text,  # vLLM does not look at it
    "revision": _text,
    "peft_version": _text,
    "inference_mode": _flag,
    "use_rslora": _flag,
    "init_lora_weights": lambda value: _flag(value) or value in ("gaussian", "pissa", "olora", "orthogonal"),
    "megatron_core": _text,  # without megatron_config it means nothing
    "qalora_group_size": lambda value: type(value) is int,  # nor does this without use_qalora
}
"""Configuration keys with the values they may have; `_OFF` names those that may only be off; no other may be there."""

_OFF = frozenset({
    "alora_invocation_tokens", "alpha_pattern", "arrow_config", "auto_mapping", "corda_config", "ensure_weight_tying",
    "eva_config", "exclude_modules", "fan_in_fan_out", "kasa_config", "layer_replication", "layers_pattern",
    "layers_to_transform", "loftq_config", "lora_bias", "lora_ga_config", "megatron_config", "modules_to_save",
    "monteclora_config", "rank_pattern", "runtime_config", "target_parameters", "trainable_token_indices", "use_bdlora",
    "use_dora", "use_qalora", "velora_config",
})  # fmt: skip


def check_config(folder: Path, data: bytes, max_rank: int) -> AdapterShape:
    """The shape of a plain LoRA configuration. Raises `AdapterRefused` naming the key and its value."""
    config = read_json(folder, CONFIG_FILE, data)
    for key in ("peft_type", "r", "lora_alpha", "target_modules"):
        if key not in config:
            raise AdapterRefused(folder.name, f"{CONFIG_FILE}: {key}", "is missing")
    for key, value in config.items():
        allowed = _ALLOWED.get(key) or (_off if key in _OFF else None)
        if allowed is None or not allowed(value):
            raise AdapterRefused(folder.name, f"{CONFIG_FILE}: {key}", f"{str(value)[:200]!r} is not allowed")
    if config["r"] > max_rank:
        raise AdapterRefused(folder.name, f"{CONFIG_FILE}: r", f"{config['r']} is more than the engine's {max_rank}")
    return AdapterShape(config["r"], config["lora_alpha"], tuple(config["target_modules"]), config.get("use_rslora", False))


def check_weights(folder: Path, data: bytes, shape: AdapterShape) -> None:
    """Raises `AdapterRefused` unless each adapted module has an A (r, in) and a B (out, r), finite and of bounded norm."""
    from ops.adapter_weights import norm  # NumPy, for those who have an adapter to check

    try:
        tensors = dict(safetensors.deserialize(data))  # type: ignore[no-untyped-call]
    except (safetensors.SafetensorError, ValueError) as error:
        raise AdapterRefused(folder.name, WEIGHTS_FILE, f"is not safetensors: {error}") from error
    norms: dict[str, dict[str, float]] = {}
    for key, tensor in sorted(tensors.items()):
        matched = _KEY.fullmatch(key)
        if matched is None or not _adapted(matched["module"], shape.target_modules):
            raise AdapterRefused(folder.name, f"{WEIGHTS_FILE}: {key[:200]}", "is not a LoRA weight of a target module")
        try:
            norms.setdefault(matched["module"], {})[matched["side"]] = norm(tensor, matched["side"], shape.rank)
        except ValueError as error:
            raise AdapterRefused(folder.name, f"{WEIGHTS_FILE}: {key}", str(error)) from error
    for target in shape.target_modules:
        if not any(_adapted(module, (target,)) for module in norms):
            raise AdapterRefused(folder.name, f"{WEIGHTS_FILE}: {target}", "has no weights, though it is a target module")
    for module, pair in norms.items():
        if len(pair) != 2:
            raise AdapterRefused(folder.name, f"{WEIGHTS_FILE}: {module}", f"has only lora_{next(iter(pair))}")
        bound = shape.scale * pair["A"] * pair["B"]
        if not bound <= MAX_UPDATE_NORM:
            raise AdapterRefused(folder.name, f"{WEIGHTS_FILE}: {module}", f"norm {bound:.3g} is over {MAX_UPDATE_NORM:g}")


def _adapted(module: str, targets: tuple[str, ...]) -> bool:
    return any(module == target or module.endswith("." + target) for target in targets)
