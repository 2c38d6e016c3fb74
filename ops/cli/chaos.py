"""``plaudit chaos``: faults done on purpose, and what became of the events. A broken promise ends it with status 1."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from ops.chaos.scenarios import PLACES
from ops.cli.common import Json, print_json
from ops.progress import progress_bar

app = typer.Typer(no_args_is_help=True, help="Faults on purpose: log.")

_COLUMNS = {
    "scenario": "name",
    "faults": "faults",
    "acknowledged": "acknowledged",
    "lost": "lost",
    "doubled": "doubled",
    "reordered": "reordered",
    "recovery s": "recovery_s",
    "took s": "seconds",
    "verdict": "passed",
}


@app.callback()
def chaos() -> None:
    """Faults on purpose: log."""


_FULL = (
    "As often and as long as the promise says: the gateway killed 100 times over 100 000 events, the forwarder 100 times, "
    "brokers away for 150 s, every way to fail at every step to the disk; half an hour. Without it, each fault a few times: "
    "two minutes."
)
_HELP = """Kill, cut and fill what feedback passes on its way into the log: nothing acknowledged may be lost or count twice.

Scenarios, by what they are done to (the real broker's need PLAUDIT_KAFKA_HOME, a folder with Kafka's libs/*.jar):

""" + "\n\n".join(f"{place}: {', '.join(each.scenarios)}" for place, each in PLACES.items())


@app.command(help=_HELP)
def log(
    full: Annotated[bool, typer.Option("--full", help=_FULL)] = False,
    only: Annotated[list[str] | None, typer.Option("--only", help="A scenario of those above; may be given again.")] = None,
    json: Json = False,
) -> None:
    from ops.chaos.run import run
    from ops.up import stop_on_signals

    stop_on_signals()
    try:
        with progress_bar() as report:
            made = run("full" if full else "short", only or (), report)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if json:
        print_json(made)
    else:
        _show(made)
    if not made["passed"]:
        raise typer.Exit(1)


def _show(made: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Faults, and what became of the events", title_justify="left")
    for name, column in _COLUMNS.items():
        table.add_column(name, justify="left" if column in ("name", "passed") else "right", no_wrap=True)
    for each in made["scenarios"]:
        verdict = "passed" if each["passed"] else "[bold red]FAILED[/]"
        table.add_row(*(verdict if column == "passed" else str(each[column]) for column in _COLUMNS.values()))
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    console.print(table)
    for each in made["scenarios"]:
        for told in filter(None, [*each["problems"], each["note"]]):
            console.print(f"{each['name']}: {told}", markup=False)
    for each in made["not_run"]:
        console.print(f"not run: {each['name']}: {each['reason']}", markup=False)
