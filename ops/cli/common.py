"""What every command shares: the options all of them take, settings from them, and output for people or programs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.errors import CommandError
from ops.settings import Settings, load_settings

__all__ = [
    "CommandError",
    "DataDir",
    "Json",
    "Model",
    "Project",
    "no_foreign_bars",
    "note_if_empty",
    "print_json",
    "print_table",
    "settings_from",
    "when",
]

_WIDE = 240
"""Characters."""

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Where Plaudit keeps everything. [default: .plaudit]", show_default=False)
]
Project = Annotated[str | None, typer.Option("--project", help="The project. [default: default]", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Model = Annotated[
    str | None,
    typer.Option("--model", help="'smollm2', 'starter', a Hugging Face id, or a path. [default: smollm2]", show_default=False),
]


def settings_from(data_dir: Path | None, **flags: Any) -> Settings:
    """Settings with this command's flags on top; flags that are None were not given."""
    return load_settings(data_dir=data_dir, **flags)


def no_foreign_bars() -> None:
    """Turn the libraries' own progress bars off, before they are imported; ours tell more."""
    os.environ.setdefault("TQDM_DISABLE", "1")


def print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


def note_if_empty(settings: Settings, found: int) -> None:
    """A project's name that was mistyped looks like one of whom nobody has said anything yet."""
    if not found:
        print(f"plaudit: the log has no feedback of project {settings.project!r}", file=sys.stderr)


def print_table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "id")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    # Into a file or a pipe, a row is one line: there is no terminal to fit.
    Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDE).print(table)


def when(unix_seconds: float | None) -> str:
    from datetime import UTC, datetime

    return "" if unix_seconds is None else datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
