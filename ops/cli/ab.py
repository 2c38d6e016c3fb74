"""``plaudit ab``: the live experiment between champion and challenger."""

from __future__ import annotations

from typing import Any

import typer

from ops.cli.common import DataDir, Json, Project, print_json, print_table, settings_from

app = typer.Typer(no_args_is_help=True, help="The live experiment: status.")


@app.callback()
def ab() -> None:
    """The live experiment between champion and challenger."""


@app.command()
def status(data_dir: DataDir = None, project: Project = None, json: Json = False) -> None:
    """Champion, challenger, exposure, evidence and what is still missing, read from the log now."""
    from ops.controller import status as read_status

    figures = read_status(settings_from(data_dir, project=project))
    if json:
        print_json(figures)
    else:
        rows = [[key, _cell(value)] for key, value in figures.items() if key != "history"]
        print_table("Rollout", ["what", "value"], rows)
        print_table(
            "History", ["rollout", "challenger", "state", "reason"], [list(row.values())[:4] for row in figures["history"]]
        )


def _cell(value: Any) -> str:
    """A figure for people: rounded, and what is in groups one a line."""
    match value:
        case float():
            return f"{value:.4g}"
        case dict():
            return "\n".join(f"{name}: {_cell(part).replace(chr(10), ', ')}" for name, part in value.items())
        case list() | tuple():
            return "\n".join(_cell(part) for part in value)
        case _:
            return "" if value is None else str(value)
