"""The commands that bring simulated people: ``demo`` and ``simulate``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ops.cli import load
from ops.cli.common import CommandError, DataDir, Json, no_foreign_bars, print_json, settings_from

if TYPE_CHECKING:
    from ops.crowd import Crowd
    from ops.settings import Settings

_People = Annotated[
    Literal["taste", "random"],
    typer.Option("--people", help="Vote by a hidden taste, or at random."),
]
_Seed = Annotated[int, typer.Option("--seed", help="Of people, questions, training.", min=0)]


def demo(
    model: Annotated[str, typer.Option("--model", help="'starter' (minutes) or 'smollm2' (half an hour).")] = "starter",
    report: Annotated[Path | None, typer.Option("--report", help="Where to write it. [default: in the data folder]")] = None,
    people: _People = "taste",
    seed: _Seed = 0,
    votes: Annotated[
        int | None, typer.Option("--votes", "-n", help="At most so many. [default: by the model]", show_default=False)
    ] = None,
    data_dir: DataDir = None,
    port: Annotated[int, typer.Option("--port", help="The gateway's port; the two above it serve metrics.")] = 8100,
    json: Json = False,
) -> None:
    """Simulated people talk to the public API and vote; the model learns, is rolled out, and the better one stays."""
    from ops.demo.plan import plan_of
    from ops.demo.run import run_demo

    plan, settings = plan_of(model, seed, people, votes), settings_from(data_dir)
    folder = settings.data_dir / f"demo-{time.strftime('%Y%m%d-%H%M%S')}-seed{seed}"
    with redirect_stdout(sys.stderr) if json else nullcontext():
        figures = run_demo(folder, settings.models_dir.absolute(), port, plan, report or folder / "report.json")
    if json:
        print_json(figures)


def simulate(
    key: Annotated[
        str | None, typer.Option("--key", envvar="PLAUDIT_API_KEY", help="An API key. [default: a new one of the data folder's]")
    ] = None,
    url: Annotated[str, typer.Option("--url", help="The running Plaudit.")] = "http://127.0.0.1:8000/v1",
    votes: Annotated[int, typer.Option("--votes", "-n", help="Votes to gather.", min=1)] = 100,
    count: Annotated[int, typer.Option("--count", help="How many people.", min=1)] = 200,
    people: _People = "taste",
    seed: _Seed = 0,
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", help="People at once.", min=1, max=256)] = 8,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Let simulated people ask and vote over HTTP: the starter model's about its subjects, any other's about all the world."""
    import asyncio
    from dataclasses import asdict

    from ops.crowd import Crowd
    from ops.domain.general.domain import GENERAL
    from ops.domain.known import DOMAINS
    from ops.domain.people import crowd as people_of

    settings = settings_from(data_dir)
    someone = people_of(count, seed=seed, mode=people, domain=DOMAINS.get(settings.model, GENERAL))
    with _key_for_now(settings) if key is None else nullcontext(key) as secret:
        crowd = Crowd(someone, base_url=url, api_key=secret, seed=seed)
        asyncio.run(_talk(crowd, votes, concurrency))
    tally = asdict(crowd.tally)
    if json:
        print_json(tally)
    else:
        print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in tally.items() if name != "failures"))
    if crowd.tally.votes < votes:
        last = "; ".join(dict.fromkeys(crowd.tally.failures[-3:]))
        raise CommandError(f"--url={url}: only {crowd.tally.votes} of {votes} votes ({last}); does Plaudit run there?")


@contextmanager
def _key_for_now(settings: Settings) -> Iterator[str]:
    """A key of the data folder's that is revoked again at the end."""
    store = load("serving.keys:KeyStore")(settings)
    store.ensure_project(settings.project)
    secret, info = store.create(settings.project, "app", "simulate", None)
    try:
        yield secret
    finally:
        store.revoke(info.id)


async def _talk(crowd: Crowd, votes: int, concurrency: int) -> None:
    try:
        await crowd.vote(votes, concurrency)
    finally:
        await crowd.close()


def evaluate(
    champion: Annotated[str, typer.Option("--champion", help="Adapter id, or 'base'.")],
    initial: Annotated[str, typer.Option("--initial", help="Adapter id, or 'base'.")] = "base",
    prompts: Annotated[int, typer.Option("--prompts", "-n", help="Held-out questions.", min=10)] = 1000,
    seconds: Annotated[
        float | None, typer.Option("--seconds", help="Ask no more questions after so many.", min=1, show_default=False)
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Judge one adapter against another by the hidden taste without noise, on questions nobody was asked."""
    no_foreign_bars()
    figures = load("trainer.evaluate:run_evaluation")(
        settings_from(data_dir), champion=champion, initial=initial, prompts=prompts, seconds=seconds
    )
    if json:
        print_json(figures)
    else:
        for name, value in figures.items():
            print(f"{name}: {value}")
