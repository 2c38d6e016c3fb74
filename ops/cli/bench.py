"""``plaudit bench``: how fast, how steady. A bench measures: it ends with 0 also where an aim is missed, and says so."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import typer

from feedback.importers import FORMATS
from ops.cli import COMMANDS, load
from ops.cli.common import CommandError, DataDir, Model, no_foreign_bars, settings_from
from ops.progress import Report, progress_bar
from ops.settings import TrainSettings

app = typer.Typer(no_args_is_help=True, help=COMMANDS["bench"].help)

T = TypeVar("T", int, float)

FEWEST = 10
"""Votes that a reward model is worth measuring with."""

_JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the report here.", show_default=False)]


@app.command()
def gateway(
    rounds: Annotated[int, typer.Option("--rounds", "-r", min=1, help="Figures are medians over so many.")] = 5,
    requests: Annotated[int, typer.Option("--requests", "-n", min=8, help="To each target in each round.")] = 2000,
    streams: Annotated[int, typer.Option("--streams", "-c", min=1, help="At once.")] = 32,
    rate: Annotated[float, typer.Option("--rate", min=0, help="Requests a second of the open loop; 0: none.")] = 500.0,
    soak: Annotated[int, typer.Option("--soak", min=0, help="Requests while memory is watched; 0: none.")] = 100_000,
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="Processes of the gateway.")] = 1,
    litellm: Annotated[
        str | None,
        typer.Option("--litellm", help="LiteLLM's program, or 'none'. [default: the one in .venv/bench]", show_default=False),
    ] = None,
    pin: Annotated[bool, typer.Option("--pin/--no-pin", help="Half of the CPUs for the load, half for the gateway.")] = True,
    at_once: Annotated[bool, typer.Option("--at-once", help="The stub writes a whole answer at once.")] = False,
    json: _JsonFile = None,
    data_dir: DataDir = None,
) -> None:
    """What the gateway adds, directly against a stub upstream and beside LiteLLM, with durable capture on."""
    from ops.bench.gateway import Options, run

    options = Options(
        rounds=rounds,
        requests=requests,
        concurrency=streams,
        rate=rate,
        soak=soak,
        workers=workers,
        litellm=litellm,
        pin=pin,
        at_once=at_once,
    )
    folder = settings_from(data_dir).data_dir / "bench"
    _show("The gateway, over a stub upstream", json, lambda report: run(options, folder, report))


@app.command()
def engine(
    rounds: Annotated[int, typer.Option("--rounds", "-r", min=1, help="Figures are medians over so many.")] = 5,
    requests: Annotated[int, typer.Option("--requests", "-n", min=1, help="Of each kind in each round.")] = 128,
    streams: Annotated[int, typer.Option("--streams", "-c", min=1, help="At once.")] = 32,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Of every answer.")] = 64,
    json: _JsonFile = None,
) -> None:
    """Tokens a second of the real engine, through the gateway and directly."""
    from ops.bench.engine import Options, run

    options = Options(rounds=rounds, requests=requests, concurrency=streams, tokens=tokens)
    _show("The gateway, over the real engine", json, lambda report: run(options, report))


@app.command()
def swap(
    swaps: Annotated[int, typer.Option("--swaps", "-n", min=1, help="Adapters published, one after another.")] = 100,
    streams: Annotated[int, typer.Option("--streams", "-c", min=1, help="Answers that run meanwhile.")] = 32,
    engines: Annotated[int, typer.Option("--engines", min=1, help="Real engines.")] = 1,
    restarts: Annotated[int, typer.Option("--restarts", min=0, help="Rolling restarts of the gateway.")] = 20,
    json: _JsonFile = None,
) -> None:
    """Adapters change and gateways restart under constant load: nothing may fail, nothing may be mixed."""
    load("ops.bench.swap:run")(swaps=swaps, streams=streams, engines=engines, restarts=restarts, json=json)


@app.command()
def chat(
    rounds: Annotated[int, typer.Option("--rounds", "-r", min=1, help="Figures are medians over so many.")] = 5,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="Of chat, idle and training, in each round.")] = 15.0,
    streams: Annotated[int, typer.Option("--streams", "-c", min=1, help="At once.")] = 4,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Of every answer, at most.")] = 64,
    model: Annotated[str, typer.Option("--model", help="Served and trained.")] = "starter",
    json: _JsonFile = None,
) -> None:
    """How much longer answers take while the trainer learns on the same machine; settings as in the environment."""
    from ops.bench.chat import Options, run

    options = Options(model=model, rounds=rounds, seconds=seconds, streams=streams, tokens=tokens)
    _show(f"Chat beside the trainer, {model}", json, lambda report: run(options, report))


@app.command()
def log(
    rounds: Annotated[int, typer.Option("--rounds", "-r", min=1, help="Figures are medians over so many.")] = 5,
    requests: Annotated[
        int, typer.Option("--requests", "-n", min=10, help="Of one judgement, through HTTP, in each round.")
    ] = 5000,
    connections: Annotated[int, typer.Option("--connections", "-c", min=1, help="At once.")] = 64,
    group: Annotated[int, typer.Option("--group", min=1, max=100, help="Events of a group, judgements of a list.")] = 100,
    rate: Annotated[float, typer.Option("--rate", min=1, help="Requests a second of the open loop.")] = 500.0,
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="Processes of the gateway.")] = 1,
    pin: Annotated[bool, typer.Option("--pin/--no-pin", help="Half of the CPUs for the load, half for the gateway.")] = True,
    json: _JsonFile = None,
    data_dir: DataDir = None,
) -> None:
    """What it takes to keep a judgement for good: the log beside bare SQLite, and through HTTP."""
    from ops.bench.log import Options, run

    options = Options(rounds=rounds, requests=requests, connections=connections, group=group, rate=rate, workers=workers, pin=pin)
    folder = settings_from(data_dir).data_dir / "bench"
    _show("The log, beside bare SQLite and through HTTP", json, lambda report: run(options, folder, report))


@app.command()
def ppo(
    rounds: Annotated[int, typer.Option("--rounds", "-r", min=1, help="Processes of each side; figures are medians.")] = 3,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Measured in each process.")] = 3,
    size: Annotated[Literal["23m", "1b"], typer.Option("--size", help="Parameters of the Llama.")] = "23m",
    device: Annotated[Literal["cpu", "cuda"], typer.Option("--device", help="Where both run.")] = "cpu",
    seeds: Annotated[
        str, typer.Option("--seeds", help="Of runs that compare what is learnt (starter model), with commas; '': none.")
    ] = "0,1,2,3,4",
    samples: Annotated[int, typer.Option("--samples", min=64, help="For each side in such a run.")] = 2560,
    trl: Annotated[
        Path | None, typer.Option("--trl", help="Folder of TRL 1.12's packages. [default: .venv/trl]", show_default=False)
    ] = None,
    json: _JsonFile = None,
    data_dir: DataDir = None,
) -> None:
    """A step of our PPO beside TRL 1.12's on identical rollouts: FLOPs, memory, CPU time; and what both learn."""
    no_foreign_bars()
    settings = settings_from(data_dir, model="starter")
    options = load("trainer.bench.ppo:Options")(
        rounds=rounds,
        steps=steps,
        size=size,
        device=device,
        dtype="bfloat16" if device == "cuda" else "float32",
        seeds=tuple(_numbers("--seeds", seeds, int)) if seeds else (),
        samples=samples,
        trl=trl,
    )
    folder = settings.data_dir / "bench" / "ppo"
    run = load("trainer.bench.ppo:run")
    _show("PPO beside TRL 1.12", json, lambda report: run(options, settings, folder, report))


@app.command()
def learning(
    votes: Annotated[int, typer.Option("--votes", "-n", min=10, help="Of each run.")] = 600,
    every: Annotated[int, typer.Option("--every", min=10, help="Votes from one training cycle to the next.")] = 200,
    seeds: Annotated[str, typer.Option("--seeds", help="With commas between.")] = "0,1,2",
    algorithm: Annotated[str, typer.Option("--algorithm", help="One or more of the setting's, with commas between.")] = "rloo",
    adversaries: Annotated[str, typer.Option("--adversaries", help="Shares of people who vote reversed.")] = "0",
    people: Annotated[int, typer.Option("--people", min=10)] = 40,
    questions: Annotated[int, typer.Option("--questions", min=50, help="Held out, for the figures.")] = 1000,
    json: _JsonFile = None,
    data_dir: DataDir = None,
) -> None:
    """Votes and minutes until people prefer the starter model's answers, without serving; settings as in the environment."""
    from ops.bench.learning import MODEL, Options, run, show
    from ops.bench.table import write_json
    from ops.logs import configure_logs

    no_foreign_bars()
    configure_logs("bench")
    options = Options(
        votes=votes,
        votes_per_round=every,
        seeds=tuple(_numbers("--seeds", seeds, int)),
        algorithms=_algorithms("--algorithm", algorithm),
        adversaries=_shares("--adversaries", adversaries),
        people=people,
        questions=questions,
    )

    def keep(found: dict[str, Any]) -> None:
        if json is not None:
            write_json(json, {"command": _command(), **found})

    with progress_bar() as report:
        made = run(options, settings_from(data_dir, model=MODEL), report, keep)
    show(made)


@app.command()
def curve(
    votes: Annotated[
        str, typer.Option("--votes", "-n", help="Each a model of its own, with commas between.")
    ] = "50,100,200,400,800",
    seeds: Annotated[str, typer.Option("--seeds", help="With commas between.")] = "0,1,2",
    adversaries: Annotated[str, typer.Option("--adversaries", help="Shares of people who vote reversed.")] = "0",
    people: Annotated[int, typer.Option("--people", min=10)] = 40,
    pairs: Annotated[int, typer.Option("--pairs", min=50, help="Held out, for the figures.")] = 1000,
    json: _JsonFile = None,
    data_dir: DataDir = None,
) -> None:
    """What the reward model knows after so many votes of simulated people, beside words' TF-IDF (starter model)."""
    no_foreign_bars()
    settings = settings_from(data_dir, model="starter")
    options = load("trainer.bench.curve:Options")(
        sizes=_sizes("--votes", votes),
        seeds=tuple(_numbers("--seeds", seeds, int)),
        adversaries=_shares("--adversaries", adversaries),
        people=people,
        pairs=pairs,
    )
    run = load("trainer.bench.curve:run")
    _show("What the reward model knows after so many votes", json, lambda report: run(options, settings, report))


@app.command()
def reward(
    data: Annotated[str, typer.Option("--data", metavar="FILE", help="A preference data set, as for plaudit import.")],
    format: Annotated[str, typer.Option("--format", help="As for plaudit import.")] = "hh-rlhf",
    model: Model = None,
    folds: Annotated[int, typer.Option("--folds", min=2, help="Of the conversations.")] = 5,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=10, help="Pairs, at most.", show_default=False)] = None,
    trunk: Annotated[
        Literal["frozen", "adapter"], typer.Option("--trunk", help="What the reward model's heads read.")
    ] = "frozen",
    json: _JsonFile = None,
    data_dir: DataDir = None,
) -> None:
    """The reward model on real people's votes that it was not taught, beside whoever knows nothing, lengths, or words."""
    no_foreign_bars()
    settings = settings_from(data_dir, model=model)
    train = settings.train.model_copy(update={"reward": settings.train.reward.model_copy(update={"trunk": trunk})})
    settings = settings.model_copy(update={"train": train})
    if format not in FORMATS:
        raise CommandError(f"--format={format!r}: one of {', '.join(FORMATS)}")
    options = load("trainer.bench.reward:Options")(file=data, format=format, folds=folds, limit=limit)
    run, folder = load("trainer.bench.reward:run"), settings.data_dir / "bench" / "reward"
    _show("The reward model on real people's votes", json, lambda report: run(options, settings, folder, report))


@app.command()
def page(
    sources: Annotated[list[Path], typer.Argument(help="JSON files of benches.")],
    to: Annotated[Path, typer.Option("--to", help="The page; its plots go into a folder of its name.")] = Path(
        "docs/learning.md"
    ),
) -> None:
    """Tables and plots of what the benches of learning found, as a Markdown page."""
    from ops.bench.page import write_page

    for path in write_page(to, sources):
        print(path)


def _numbers(option: str, text: str, kind: type[T]) -> list[T]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise CommandError(f"{option}={text!r}: write {kind.__name__} numbers with commas between") from error


def _shares(option: str, text: str) -> tuple[float, ...]:
    shares = tuple(_numbers(option, text, float))
    if not all(0 <= share <= 1 for share in shares):
        raise CommandError(f"{option}={text!r}: write shares from 0 to 1 with commas between")
    return shares


def _algorithms(option: str, text: str) -> tuple[str, ...]:
    known, asked = get_args(TrainSettings.model_fields["algorithm"].annotation), tuple(text.split(","))
    if not set(asked) <= set(known):
        raise CommandError(f"{option}={text!r}: write some of {', '.join(known)} with commas between")
    return asked


def _sizes(option: str, text: str) -> tuple[int, ...]:
    sizes = tuple(_numbers(option, text, int))
    if min(sizes) < FEWEST:
        raise CommandError(f"{option}={text!r}: write numbers from {FEWEST} on with commas between")
    return sizes


def _show(title: str, json: Path | None, measure: Callable[[Report], dict[str, Any]]) -> None:
    """Measure with a bar, print the table, write the file. SIGTERM ends it as Ctrl-C does: what was started is stopped."""
    from ops.bench.table import show
    from ops.up import stop_on_signals

    stop_on_signals()
    try:
        with progress_bar() as report:
            made = measure(report)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    show(title, {"command": _command(), "title": title, **made}, json)


def _command() -> str:
    """What was asked for: every report says how it was made."""
    return " ".join(["plaudit", *sys.argv[1:]])
