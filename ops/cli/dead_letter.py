"""``plaudit dead-letter``: records that nobody could use, and trying them again."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from ops.cli.common import CommandError, DataDir, Json, Project, print_json, print_table, settings_from, when
from ops.cli.keys import audit
from ops.dead_letters import Letter, letters_of
from ops.dead_letters import requeue as requeue_letters
from ops.open_log import existing_log_of

app = typer.Typer(no_args_is_help=True, help="Records that nobody could use: list, requeue.")


@app.command("list")
def list_letters(data_dir: DataDir = None, project: Project = None, json: Json = False) -> None:
    """Dead letters, oldest first: why, where the record is, and for how long. What people wrote is not shown."""
    settings = settings_from(data_dir, project=project)
    with existing_log_of(settings) as log:
        letters = letters_of(log, settings.project)
    rows = [letter.as_json(time.time()) for letter in letters]
    if json:
        print_json(rows)
        return
    names = ["id", "reason", "detail", "position"]
    table = [[*(row[name] for name in names), when(row["time"]), _age(row["age_seconds"])] for row in rows]
    print_table(f"Dead letters of {settings.project}", [*names, "since", "age"], table)


@app.command()
def requeue(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="As in 'plaudit dead-letter list'.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    data_dir: DataDir = None,
    project: Project = None,
    json: Json = False,
) -> None:
    """Try records again: those that can be read by now are appended under their own ids, so that doing it twice does no harm.

    What Kafka refused is sent to it again, from the outbox that holds it. Feedback without its answer (no_target) needs
    nothing: it is in the log, and joins its answer in every replay, should that come.
    """
    if every == bool(ids):
        raise CommandError("name the letters to requeue as in 'plaudit dead-letter list', or send --all")
    settings = settings_from(data_dir, project=project)
    with existing_log_of(settings) as log:
        done = requeue_letters(log, _chosen(letters_of(log, settings.project), ids))
    audit(settings, "dead_letter.requeue", f"{settings.project}/{len(done)}")
    rows = [{"id": each.letter.event.id, "outcome": each.outcome, "detail": each.detail} for each in done]
    if json:
        print_json(rows)
        return
    print_table("Requeued", ["id", "outcome", "detail"], [list(row.values()) for row in rows])


def _chosen(letters: list[Letter], ids: list[str] | None) -> list[Letter]:
    known = {letter.event.id: letter for letter in letters}
    for id in ids or ():
        if id not in known:
            raise CommandError(f"dead letter {id!r}: there is none; see 'plaudit dead-letter list'")
    return letters if not ids else [known[id] for id in dict.fromkeys(ids)]


def _age(seconds: float) -> str:
    if seconds >= 86_400:
        return f"{seconds / 86_400:.1f} d"
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:.0f} s"
