"""Settings as the environment of a child process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from ops.settings import Settings


def environment_of(settings: Settings) -> dict[str, str]:
    """This process's environment with every setting in it, so that children see exactly these settings."""
    folders = {"data_dir": settings.data_dir.absolute(), "model_cache": settings.models_dir.absolute()}
    values = {name: value for name, value in (settings.model_dump() | folders).items() if value is not None}
    values = {"database_url": ""} | values  # the parent's own environment must not name one where these settings have none
    return dict(os.environ) | {f"PLAUDIT_{name.upper()}": _text(value) for name, value in values.items()}


def _text(value: Any) -> str:
    """A setting as the environment has it: words as they are, all else as JSON; secrets are told."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value) if isinstance(value, str | Path) else json.dumps(value, default=_text)
