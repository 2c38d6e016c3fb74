"""``plaudit bench learning``: how many votes, and how much computing, until people prefer the starter model's answers.

Simulated people vote on answers made in this process, the trainer's own cycles learn from the log, and what passes its gates
is the champion (`trainer.bench.learning`). Measured are the champion's answers beside the base's, by the people's taste
without noise, on questions that nobody was asked. Minutes are CPU time of the cycles: what others do on the machine is not in.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ops.bench.curves import Run, curves
from ops.bench.table import machine
from ops.cli import load
from ops.cli.common import print_table
from ops.progress import Report
from ops.settings import Settings, load_settings

MODEL = "starter"


@dataclass(frozen=True)
class Options:
    votes: int = 600
    votes_per_round: int = 200
    seeds: tuple[int, ...] = (0, 1, 2)
    algorithms: tuple[str, ...] = ("rloo",)
    adversaries: tuple[float, ...] = (0.0,)
    people: int = 40
    questions: int = 1000
    """Held out, for the figures."""

    @property
    def rounds(self) -> int:
        return -(-self.votes // self.votes_per_round)

    @property
    def runs(self) -> list[tuple[str, float, int]]:
        """Algorithm, share of adversaries and seed of each run; what has no adversaries comes first."""
        return [(a, share, seed) for share in self.adversaries for a in self.algorithms for seed in self.seeds]


def run(
    options: Options, settings: Settings, report: Report, keep: Callable[[dict[str, Any]], None] = lambda found: None
) -> dict[str, Any]:
    """The report: ``runs``, and ``curves`` over their seeds (see `ops.bench.curves`). ``settings`` name the models' folder.

    ``keep`` is given the report after each run: they take minutes.
    """
    before, runs = machine(), []
    configs = {algorithm: _config(settings, algorithm) for algorithm in options.algorithms}
    found: dict[str, Any] = {}
    for each in options.runs:
        runs.append(_rounded(_measured(options, settings, report, *each)))
        curved = _rounded(curves([Run.of(run) for run in runs]))
        found = {"options": asdict(options), "machine": before, "configs": configs, "runs": runs, "curves": curved}
        keep(found)
    return found


def _config(settings: Settings, algorithm: str) -> dict[str, Any]:
    """All settings of the training."""
    return settings_of(settings.data_dir, settings.models_dir, algorithm, 0).train.model_dump(mode="json")


def _rounded(value: Any) -> Any:
    """Numbers to four digits after the point: the file is to be read, and kept."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


def _measured(
    options: Options, settings: Settings, report: Report, algorithm: str, adversaries: float, seed: int
) -> dict[str, Any]:
    """One run, in a folder of its own that is gone afterwards."""
    done: list[int] = []

    def tell(told: dict[str, Any]) -> None:
        done.append(told["votes"])
        report(f"{algorithm}, {adversaries:.0%} adversaries, seed {seed}", len(done) / options.rounds)

    folder = settings.data_dir / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        own = settings_of(Path(place), settings.models_dir, algorithm, seed)
        measured = load("trainer.bench.learning:run")(
            own,
            votes=options.votes,
            votes_per_round=options.votes_per_round,
            people=options.people,
            adversaries=adversaries,
            questions=options.questions,
            best_of=not adversaries and algorithm == options.algorithms[0],
            on_round=tell,
        )
    return {"algorithm": algorithm, "adversaries": adversaries, "seed": seed, **measured}


def settings_of(folder: Path, models: Path, algorithm: str, seed: int) -> Settings:
    """Those of a run: the starter model's, as an operator's environment has them; answers are made without an engine."""
    return load_settings(
        data_dir=folder,
        model_cache=models,
        model=MODEL,
        seed=seed,
        database_url="",
        metrics_port_trainer=0,
        train={"algorithm": algorithm, "rollouts": "local"},
    )


def show(report: dict[str, Any]) -> None:
    """The curves as tables: means over seeds, with the least of the win rates."""
    for curve in report["curves"]:
        title = f"{curve['algorithm']}, {curve['adversaries']:.0%} adversaries, seeds {curve['seeds']}: means"
        print_table(title, [name for name, _ in COLUMNS], [[cell(point) for _, cell in COLUMNS] for point in curve["points"]])
        for goal, reached in curve["reached"].items():
            print(f"win rate {goal}: {reached_text(reached, len(curve['seeds']))}")
        for name, rate in curve["best_of"].items():
            print(f"the base's best of {name.split()[1]} answers by the {BY[name.split()[0]]}: win rate {rate['mean']:.3f}")


BY = {"gold": "taste itself", "reward": "last reward model"}
"""Who chooses the best of n."""


def reached_text(reached: dict[str, Any], seeds: int) -> str:
    if not reached["n"]:
        return "not reached"
    of = "" if reached["n"] == seeds else f", in {reached['n']} of {seeds} seeds"
    return f"{reached['votes']:g} votes, {reached['minutes']:.1f} min{of}"


def _mean(figure: str, digits: int = 3) -> Callable[[dict[str, Any]], str]:
    return lambda point: f"{point[figure]['mean']:.{digits}f}"


def _rate(point: dict[str, Any]) -> str:
    rate = point["win_rate"]
    if math.isnan(rate["low"]):
        return f"{rate['mean']:.3f}"
    return f"{rate['mean']:.3f} [{max(0.0, rate['low']):.3f}, {min(1.0, rate['high']):.3f}]"


COLUMNS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("votes", lambda point: str(point["votes"])),
    ("CPU min", _mean("cpu_minutes", 2)),
    ("win rate [95 %]", _rate),
    ("least", lambda point: f"{point['win_rate']['least']:.3f}"),
    ("toxic", _mean("toxicity")),
    ("correct", _mean("correct")),
    ("garbled", _mean("garbled")),
    ("polite", _mean("polite")),
    ("rambling", _mean("rambling")),
    ("distinct-2", _mean("distinct_2")),
    ("KL, nats", _mean("kl", 1)),
)
"""Of a table of a curve: title, and what is in it of a point."""
