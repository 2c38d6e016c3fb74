"""``plaudit bench chat``: how much longer people wait for answers while the trainer learns on the same machine.

The real engine, a real gateway and a real ``plaudit train`` that has enough votes to be at it until the end. In every round the
same chats are timed twice: while the trainer learns, and while it is stopped (SIGSTOP). Which goes first changes from round to
round, so that whatever else the machine does falls on both alike. The settings are those of the environment
(``PLAUDIT_TRAIN__NICE``, ``__THREADS``, ``__ROLLOUTS``).
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ops.bench.children import apply, child
from ops.bench.load import Load, Result
from ops.bench.rounds import median_of, ratio
from ops.bench.stage import stage
from ops.bench.table import Figure, machine, number
from ops.bench.targets import Target
from ops.bench.usage import cpu_s
from ops.bench.votes import votes_of
from ops.environment import environment_of
from ops.errors import CommandError
from ops.process import module
from ops.progress import Report
from ops.settings import Settings

_VOTES = 400
_BEGUN_S = 120.0
_SETTLE_S = 3.0
"""After the trainer was stopped or let go: what it has asked of the engine is done by then."""

_MOST_REQUESTS = 10**6
_MOST_TIMES = 2.0

ALONE, BESIDE = "idle", "training"


@dataclass(frozen=True)
class Options:
    model: str = "starter"
    rounds: int = 5
    seconds: float = 15.0
    """Of chat, each time."""
    streams: int = 4
    tokens: int = 64
    """Of every answer, at most."""


@dataclass(frozen=True)
class Chatted:
    """``cpus``: the CPUs that the trainer had meanwhile, 1 being all of one."""

    result: Result
    cpus: float


Round = dict[str, Chatted]
"""By `ALONE` and `BESIDE`."""


def run(options: Options, report: Report) -> dict[str, Any]:
    """Measure; the report, fit for JSON, its figures first. Raises `CommandError` if the trainer does not get to learn."""
    here = machine()
    report("starting the engine", 0.0)
    with stage(1, options.model) as on, on.gateway() as gateway:
        on.log.append(votes_of(_VOTES, on.settings.project))
        settings = _always_learning(on.settings)
        with _trainer(settings) as trainer:
            report("starting the engine", 1.0)
            quiet = _cpus(trainer, _SETTLE_S)
            rounds = []
            for turn in range(options.rounds):
                report("rounds", turn / options.rounds)
                ways = (ALONE, BESIDE) if turn % 2 == 0 else (BESIDE, ALONE)
                rounds.append({way: _chat(options, gateway, trainer, way, turn) for way in ways})
                _check(settings, trainer)
            report("rounds", 1.0)
    return {
        "figures": [figure.as_json() for figure in figures(rounds, quiet)],
        "notes": notes(rounds, options, settings),
        "machine": here,
        "options": asdict(options) | {name: getattr(settings.train, name) for name in ("nice", "threads", "rollouts")},
        "rounds": [{way: asdict(each) for way, each in own.items()} for own in rounds],
    }


def figures(rounds: Sequence[Round], quiet: float) -> list[Figure]:
    """Medians over rounds; the ratios are taken within a round. ``quiet``: the trainer's CPUs while nobody chats."""

    def beside(name: str, field: str, aim: float | None = None) -> Figure:
        def get(chatted: Chatted) -> float:
            return float(getattr(chatted.result, field).p50)

        idle, busy = (number(median_of(rounds, way, get)) for way in (ALONE, BESIDE))
        return Figure(name, ratio(rounds, BESIDE, ALONE, get), aim, note=f"{busy} ms, idle {idle} ms")

    failed = sum(chatted.result.failed for own in rounds for chatted in own.values())
    cpus = median_of(rounds, BESIDE, lambda chatted: chatted.cpus)
    return [
        beside("whole answer p50, training / idle", "total_ms", _MOST_TIMES),
        beside("first token p50, training / idle", "first_ms"),
        Figure("CPUs that the trainer had meanwhile", cpus, note=f"{number(quiet)} while nobody chats"),
        Figure("failed requests", failed, 0),
    ]


def notes(rounds: Sequence[Round], options: Options, settings: Settings) -> list[str]:
    train = settings.train
    what = f"{options.streams} streams, answers of at most {options.tokens} tokens, {options.seconds:g} s each time"
    return [
        f"The model {options.model}; {options.rounds} rounds, medians; {what}.",
        f"train.nice={train.nice}, train.threads={train.threads}, train.rollouts={train.rollouts!r}.",
        *(f"failed: {wrong}" for own in rounds for chatted in own.values() for wrong in chatted.result.failures),
    ]


def _always_learning(settings: Settings) -> Settings:
    """One cycle that does not end before the bench does."""
    ppo = settings.train.ppo.model_copy(update={"steps": 10**6, "time_budget_s": 1e6, "max_kl": None})
    train = settings.train.model_copy(update={"min_new_votes": 1, "min_effective_labels": 1, "hours": "", "ppo": ppo})
    return settings.model_copy(update={"train": train, "metrics_port_trainer": 0})


@contextmanager
def _trainer(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """``plaudit train``, once it has begun a cycle."""
    log = settings.run_dir / "trainer.log"
    with child(module("ops.cli", "train"), log, environment=environment_of(settings)) as process:
        deadline = time.monotonic() + _BEGUN_S
        while "cycle_begins" not in log.read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise CommandError(f"the trainer does not begin; its log ends with:\n{_end(log)}")
            time.sleep(0.1)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)


def _chat(options: Options, gateway: Target, trainer: subprocess.Popen[bytes], way: str, turn: int) -> Chatted:
    trainer.send_signal(signal.SIGSTOP if way == ALONE else signal.SIGCONT)
    time.sleep(_SETTLE_S)
    load = Load(
        gateway.url,
        gateway.model,
        _MOST_REQUESTS,
        concurrency=options.streams,
        seconds=options.seconds,
        warmup=options.streams,
        key=gateway.key,
        prompt=f"{way[0]}{turn}-{{number}}: what is two plus two?",
        more={"temperature": 0, "max_tokens": options.tokens},
    )
    before, began = cpu_s(trainer.pid), time.monotonic()
    result = apply(load)
    return Chatted(result, round((cpu_s(trainer.pid) - before) / (time.monotonic() - began), 3))


def _cpus(trainer: subprocess.Popen[bytes], seconds: float) -> float:
    before = cpu_s(trainer.pid)
    time.sleep(seconds)
    return round((cpu_s(trainer.pid) - before) / seconds, 3)


def _check(settings: Settings, trainer: subprocess.Popen[bytes]) -> None:
    """Raises `CommandError` if the cycle is over: what was timed was no training."""
    if trainer.poll() is not None or (settings.trainer_dir / "cycles.jsonl").exists():
        raise CommandError(f"the trainer did not learn to the end; its log ends with:\n{_end(settings.run_dir / 'trainer.log')}")


def _end(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").strip().splitlines()[-8:])
