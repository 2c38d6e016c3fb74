"""``plaudit``: a table of names, each command imported when it is called.

So ``plaudit --help`` answers at once, and commands that need ``serving`` or ``trainer`` are known here by name only.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, NamedTuple, NoReturn

import typer
from typer.core import TyperGroup

from ops.errors import UserError


class Entry(NamedTuple):
    where: str
    """``module:attribute`` of a function (a command) or a `typer.Typer` (a group)."""
    help: str


COMMANDS = {
    "up": Entry("ops.cli.processes:up", "Start everything on this machine: engine, gateway, trainer, controller."),
    "prepare": Entry("ops.cli.processes:prepare", "Make or fetch the model that will be served."),
    "engine": Entry("ops.cli.processes:engine", "Run vLLM and keep it alive."),
    "serve": Entry("ops.cli.processes:serve", "Run the gateway: chat, feedback, the page."),
    "train": Entry("ops.cli.processes:train", "Run the trainer; --once for a single cycle."),
    "control": Entry("ops.cli.processes:control", "Run the rollout controller; --once for a single decision."),
    "demo": Entry("ops.cli.people:demo", "The whole loop by itself, with simulated people."),
    "simulate": Entry("ops.cli.people:simulate", "Let simulated people use a running Plaudit and vote."),
    "evaluate": Entry("ops.cli.people:evaluate", "Hold one adapter against another on held-out questions."),
    "doctor": Entry("ops.cli.doctor:doctor", "Check this machine and the data folder."),
    "projects": Entry("ops.cli.projects:app", "Projects that share the gateway: create, list, origins."),
    "keys": Entry("ops.cli.keys:app", "API keys: create, list, revoke; others: rotate-receipts, rotate-text."),
    "erase-user": Entry("ops.cli.erase:erase_user", "Make what one person wrote unreadable, for ever."),
    "audit": Entry("ops.cli.audit:app", "What operators did: tail, verify."),
    "adapters": Entry("ops.cli.adapters:app", "Adapters: list, show, diff, of-user, card."),
    "label": Entry("ops.cli.label:app", "Labeling: streams, tasks, raters, agreement, check."),
    "ab": Entry("ops.cli.ab:app", "The live experiment: status."),
    "raters": Entry("ops.cli.raters:app", "Raters: list, show, pause, reinstate."),
    "import": Entry("ops.cli.data:import_", "Add a data set's votes to the log: hh-rlhf, ultrafeedback, helpsteer3, arena, …"),
    "export": Entry("ops.cli.data:export", "Votes as a data set for TRL's trainers, or all events: JSON lines or Parquet."),
    "chaos": Entry("ops.cli.chaos:app", "Faults on purpose, and what became of the events: log."),
    "feedback": Entry("ops.cli.feedback:app", "What people say: tail, stats."),
    "replay": Entry("ops.cli.replay:replay", "Rebuild the preference dataset from the log's first record, to the byte."),
    "dead-letter": Entry("ops.cli.dead_letter:app", "Records that nobody could use: list, requeue."),
    "bench": Entry("ops.cli.bench:app", "Benchmarks: gateway, engine, swap, chat, log, ppo, learning, curve, reward, page."),
}


def load(where: str) -> Any:
    """The attribute that ``module:attribute`` names."""
    module, attribute = where.split(":")
    return getattr(importlib.import_module(module), attribute)


class LazyGroup(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A stand-in that only has its line of help: enough for lists and for "no such command"."""
        return _listed(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that will run: imported here, and only here."""
        name = args[0]
        if name not in COMMANDS:
            return super().resolve_command(ctx, args)
        return name, _imported(name), args[1:]


def _imported(name: str) -> Any:
    from ops.logs import configure_logs

    configure_logs(name)  # standard output is for what was asked; a process of ours says its own name later
    target = load(COMMANDS[name].where)
    command = typer.main.get_command(target if isinstance(target, typer.Typer) else _single(name, target))
    command.name = name
    return command


def _listed(name: str) -> Any:
    command = typer.main.get_command(_single(name, lambda: None))
    command.name, command.help, command.short_help = name, COMMANDS[name].help, COMMANDS[name].help
    return command


def _single(name: str, function: Any) -> typer.Typer:
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    app.command(name)(function)
    return app


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False, rich_markup_mode="rich")


@app.callback()
def plaudit() -> None:
    """Chat serving that learns from its own users, safely, by itself."""


def main() -> None:
    """Entry point: what the user can mend is one line on standard error and exit status 2."""
    try:
        app()
    except UserError as error:
        _end(str(error))
    except Exception as error:
        from feedback.log import LogError  # costs a third of a second: not for --help

        if not isinstance(error, LogError):
            raise
        _end(f"the event log: {error}")


def _end(message: str) -> NoReturn:
    print(f"plaudit: {message}", file=sys.stderr)
    raise SystemExit(2) from None
