"""``plaudit audit``: what operators did, in a chain that shows every change to it."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.audit import AuditLog
from ops.cli.common import DataDir, Json, print_json, print_table, settings_from, when

app = typer.Typer(no_args_is_help=True, help="What operators did: tail, verify.")


@app.command()
def verify(data_dir: DataDir = None, json: Json = False) -> None:
    """Check every line against the one before, and the last against the database; the first wrong one is named."""
    log = AuditLog.of(settings_from(data_dir))
    try:
        lines = log.verify()
    finally:
        log.close()
    if json:
        print_json({"ok": True, "lines": lines})
    else:
        print(f"{lines} lines, all as they were written")


@app.command()
def tail(
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many, the newest.", min=1)] = 20,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """The last actions, oldest first."""
    log = AuditLog.of(settings_from(data_dir))
    try:
        entries = log.tail(lines)
    finally:
        log.close()
    if json:
        print_json([entry.model_dump() for entry in entries])
        return
    rows = [[entry.number, when(entry.time), entry.who, entry.what, entry.target] for entry in entries]
    print_table("What operators did", ["number", "when", "who", "what", "target"], rows)
