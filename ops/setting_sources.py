"""Where settings come from beside flags and the environment, and what is told of those that are wrong.

``root`` is the class of all settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource, TomlConfigSettingsSource

from ops.errors import SettingsError
from ops.presets import PRESETS

DEFAULT_MODEL = "smollm2"


class TomlFile(TomlConfigSettingsSource):
    """``plaudit.toml``, in which a name that is no setting is a mistake."""

    def __call__(self) -> dict[str, Any]:
        values = super().__call__()
        for name in values:
            if name not in self.settings_cls.model_fields:
                raise SettingsError(_no_such(self.settings_cls, name, [name]))
        return values


class Preset(PydanticBaseSettingsSource):
    """The weakest source: numbers for the model that the other sources name."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return PRESETS.get(str(self.current_state.get("model", DEFAULT_MODEL)), {})


def check_environment(root: type[BaseModel], environment: Mapping[str, str]) -> None:
    """Raise `SettingsError` for a variable that is nearly a setting; other ``PLAUDIT_…`` ones are others' business."""
    for variable in environment:
        name = variable.removeprefix("PLAUDIT_").lower().split("__")[0]
        if variable.startswith("PLAUDIT_") and name not in root.model_fields and _meant(root, [name]):
            raise SettingsError(_no_such(root, variable, [name]))


def no_json(root: type[BaseModel], environment: Mapping[str, str]) -> str:
    """The variables that ought to hold JSON, as what they set has parts, and do not; a line each."""
    lines = []
    for variable, value in environment.items():
        path = variable.removeprefix("PLAUDIT_").lower().split("__")
        kind = _annotation(root, path) if variable.startswith("PLAUDIT_") else None
        if hasattr(kind, "model_fields") or get_origin(kind) in (dict, list, tuple):
            try:
                json.loads(value)
            except ValueError as error:
                lines.append(f"{'.'.join(path)}={value[:100]!r}: not JSON ({error}). Set {variable} to JSON, or unset it.")
    return "\n".join(lines)


def _annotation(root: type[BaseModel], path: list[str]) -> Any:
    """The type of the setting at ``path``; None where there is none."""
    kind: Any = root
    for part in path:
        field = getattr(kind, "model_fields", {}).get(part)
        kind = None if field is None else field.annotation
    return kind


def _no_such(root: type[BaseModel], name: str, path: list[str]) -> str:
    return f"{name}: there is no such setting{_meant(root, path)}; they are all in ops/settings.py and ops/setting_groups.py."


def _meant(root: type[BaseModel], path: list[str]) -> str:
    """The setting whose name is nearest to one that does not exist, as a question; nothing where none is near."""
    near = get_close_matches(path[-1], getattr(_annotation(root, path[:-1]), "model_fields", {}), 1, 0.8)
    return f"; did you mean {'.'.join([*path[:-1], near[0]])}?" if near else ""


def explain(root: type[BaseModel], error: Any) -> str:
    """One of pydantic's errors in a line: the setting, its value, what is wrong with it, and the variable that sets it."""
    path = [str(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden":
        return _no_such(root, ".".join(path), path)
    wrong = str(error["msg"]).removeprefix("Value error, ")
    if not path:  # of several fields together: the message names them
        return f"{wrong}."
    variable = "PLAUDIT_" + "__".join(part.upper() for part in path)
    return f"{'.'.join(path)}={error['input']!r}: {wrong}. Set {variable}, or {'.'.join(path)} in plaudit.toml."
