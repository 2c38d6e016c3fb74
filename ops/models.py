"""Prepared models: folders in Hugging Face's layout, and the small file that says which one a name stands for.

``<models_dir>/<slug>/model.json`` is written last, by an atomic rename, so where it is there is a whole model.
Making models needs torch and is the trainer's (``trainer.models``); finding them is everybody's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.errors import CommandError
from ops.settings import SamplingSettings, Settings
from ops.whole_files import sync, write_synced

MODEL_FILE = "model.json"
_SCHEMA = 1


class ModelError(CommandError):
    """A model cannot be had; the message says what to do."""


class ModelNotPrepared(ModelError):
    """Nobody has prepared this model in this data folder."""


class ModelUnavailable(ModelError):
    """It cannot be fetched, or what is there is not a model that can be served."""


@dataclass(frozen=True)
class ModelRef:
    """A model ready to be loaded.

    ``digest`` is the SHA-256 of its files' names and hashes; ``domain`` is "starter" where its truth is known (``ops.domain``).
    ``temperature`` and ``pair_temperature`` are what it needs where a request names none; None leaves that to the settings.
    """

    name: str
    path: str
    digest: str
    domain: str | None = None
    temperature: float | None = None
    pair_temperature: float | None = None

    def sampling(self, settings: SamplingSettings) -> SamplingSettings:
        """The settings' defaults, with this model's own temperatures where it has them and the settings were not set."""
        own = {"temperature": self.temperature, "pair_temperature": self.pair_temperature}
        return settings.model_copy(
            update={name: value for name, value in own.items() if value is not None and name not in settings.model_fields_set}
        )


def slug(model: str) -> str:
    """The folder of a model named in the settings: its name, with what no folder may have replaced; paths get a hash."""
    if is_local(model):
        path = Path(model).expanduser().resolve()
        return f"local-{_safe(path.name)}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"
    return _safe(model)


def is_local(model: str) -> bool:
    """The setting names a folder: it starts like a path, or there is a folder of that name."""
    return model.startswith(("/", "./", "../", "~")) or ("/" in model and Path(model).is_dir())


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name.replace("/", "--")).lstrip(".") or "model"


def prepared(settings: Settings) -> ModelRef:
    """The model of the settings as it was prepared. Raises `ModelNotPrepared`."""
    ref = read(settings.models_dir / slug(settings.model))
    if ref is None:
        raise ModelNotPrepared(
            f"model {settings.model!r} is not prepared in {settings.models_dir}: "
            f"run `plaudit prepare --model {settings.model}` first"
        )
    return ref


def read(folder: Path) -> ModelRef | None:
    """The model that ``folder/model.json`` names, or None when there is none, or its files are gone."""
    described = describe(folder)
    if described is None:
        return None
    path = folder / described["path"]  # an absolute path replaces the folder
    if not (path / "config.json").is_file():
        return None
    names = ("name", "digest", "domain", "temperature", "pair_temperature")
    return ModelRef(path=str(path.absolute()), **{name: described[name] for name in names})


def describe(folder: Path) -> dict[str, Any] | None:
    """What ``folder/model.json`` says, or None when there is none of this schema."""
    try:
        described = json.loads((folder / MODEL_FILE).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return described if isinstance(described, dict) and described.get("schema") == _SCHEMA else None


def write(folder: Path, ref: ModelRef, *, extra: Mapping[str, Any]) -> None:
    """Make ``folder`` name ``ref``, atomically and durably. A path inside is kept relative, so it can be moved."""
    folder.mkdir(parents=True, exist_ok=True)
    inside = Path(ref.path).absolute().is_relative_to(folder.absolute())
    path = Path(ref.path).absolute().relative_to(folder.absolute()) if inside else Path(ref.path).absolute()
    described = {"schema": _SCHEMA, **ref.__dict__, "path": str(path), **extra}
    partial = folder / f".{MODEL_FILE}.{os.getpid()}"
    write_synced(partial, json.dumps(described, indent=2).encode())
    partial.replace(folder / MODEL_FILE)
    sync(folder)
