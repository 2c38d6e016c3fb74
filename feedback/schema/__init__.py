"""JSON Schemas of the events' bodies, for readers that are not ours: one file for each type, beside this one.

They follow from the models in `feedback.events`; ``python -m feedback.schema`` writes them anew, and a test holds them
together. A field that is not required may be missing (an older version wrote the event), and others may be there (a newer
one did). The attributes around a body are CloudEvents headers: see `feedback.codec`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

from feedback.events import Data, Frozen

FOLDER = Path(__file__).parent
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def models() -> dict[str, type[Frozen]]:
    """The model of each type of event, by its CloudEvents type."""
    return {f"plaudit.{model.model_fields['type'].default}.v1": model for model in get_args(get_args(Data)[0])}


def schemas() -> dict[str, dict[str, Any]]:
    """The schema of each type of event, by its CloudEvents type."""
    return {name: {"$schema": _DIALECT, "$id": name} | model.model_json_schema() for name, model in models().items()}


def files() -> dict[str, str]:
    """What `FOLDER` should hold: the text of each schema's file, by its name."""
    return {f"{name}.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for name, schema in schemas().items()}


def write(folder: Path = FOLDER) -> list[Path]:
    """Write every file anew, and remove those of types that are no more."""
    wanted = files()
    for path in folder.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in wanted]
