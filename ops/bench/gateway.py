"""``plaudit bench gateway``: what the gateway costs, and what it takes, with durable capture on.

A stub upstream answers in no time; the same streamed chat goes to it directly, through a real ``plaudit serve`` and through
LiteLLM's proxy, in turns, so that whatever else the machine does falls on all of them alike. Figures are medians over
rounds; what is added is taken within a round. A soak then shows memory, and at the end the log must hold one event for
every answer.

With ``pin`` (the default) the stub and the load generator have one half of the CPUs, and the gateway, whichever it is, the
other. Left to the kernel, three busy processes move between too few CPUs and the same gateway measures differently from one
run to the next; pinned, its rate is that of its own half alone, and it never borrows what the load leaves idle. The CPU time
of an answer hardly depends on either, nor on what else the machine does: where the other figures waver, read that one.
"""

from __future__ import annotations

import math
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ops.bench import litellm
from ops.bench.children import apply
from ops.bench.load import Load, Result
from ops.bench.rounds import Measured, Round, figures
from ops.bench.stub import ANSWER, CHUNKS, Fault
from ops.bench.table import Figure, machine, number
from ops.bench.targets import Cores, Target, available_cpus, beside, cores, gateway_settings, plaudit, stub
from ops.bench.usage import cpu_s, each_mb, resident_mb, watched
from ops.progress import Report
from ops.settings import Settings

_LOG_S = 60.0
"""How long the last events may take to reach the log."""

_SOAK_S = 600.0
"""The longest that a tenth of the soak may take."""

_FLAT_MB = 5.0
"""Growth between a tenth of the soak and its end that counts as none: 56 bytes a request of 100 000."""

_MOST_MB = 150.0


@dataclass(frozen=True)
class Options:
    rounds: int = 5
    requests: int = 2000
    """To each target in each round, with many streams; an eighth as many with one."""
    seconds: float = 8.0
    """The longest either may take: a slow target answers fewer."""
    concurrency: int = 32
    rate: float = 500.0
    """Requests a second of the open loop; 0: none."""
    steady_s: float = 3.0
    """How long the open loop is kept up."""
    soak: int = 100_000
    workers: int = 1
    litellm: str | None = None
    pin: bool = True
    at_once: bool = False
    """The stub writes a whole answer at once instead of chunk by chunk."""
    fault: Fault = "none"
    """What the stub does wrong now and then."""


@dataclass
class Bench:
    """The running targets, and how many good answers each has given."""

    options: Options
    cores: Cores
    settings: Settings
    targets: list[Target]
    answered: dict[str, int] = field(default_factory=dict)

    def load(self, target: Target, requests: int, **more: Any) -> Result:
        more = {"seconds": self.options.seconds} | more
        load = Load(target.url, target.model, requests, key=target.key, text=ANSWER, chunks=CHUNKS, **more)
        result = apply(load, self.cores.load)
        self.answered[target.name] = self.answered.get(target.name, 0) + result.answered
        return result

    def round(self) -> Round:
        """Every target once: one stream, many, and a fixed rate for those that keep up with it."""
        made: Round = {}
        for target in self.targets:
            one = self.load(target, max(1, self.options.requests // 8), warmup=8)
            many, cpu_ms = self._many(target)
            made[target.name] = Measured(one, many, self._steady(target, many), cpu_ms)
        return made

    def _many(self, target: Target) -> tuple[Result, float]:
        """Many streams, and the gateway's CPU time for one answer in milliseconds."""
        streams, before = self.options.concurrency, _cpu_s(target)
        result = self.load(target, self.options.requests, concurrency=streams, warmup=streams)
        return result, 1000 * (_cpu_s(target) - before) / max(1, result.answered)

    def _steady(self, target: Target, many: Result) -> Result | None:
        """A peer that is slower than that only makes a queue."""
        rate = self.options.rate
        if not rate or (target.name == "litellm" and many.requests_per_s < rate):
            return None
        return self.load(target, round(rate * self.options.steady_s), rate=rate, concurrency=4)


def run(options: Options, folder: Path, report: Report) -> dict[str, Any]:
    """Measure everything; the report, fit for JSON, its figures first. What is written meanwhile, in ``folder``, is removed."""
    here = machine()
    program = litellm.find(options.litellm)
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="gateway-", dir=folder.absolute()))
    try:
        with ExitStack() as stack:
            report("starting", 0.0)
            bench = _start(stack, options, work, program)
            rounds = []
            for number in range(options.rounds):
                report("rounds", number / options.rounds)
                rounds.append(bench.round())
            report("rounds", 1.0)
            resident = {target.name: resident_mb(target.pid) for target in bench.targets if target.pid}
            memory = soak(bench, report) if options.soak else None
            log = _log_of(bench)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    missing = "" if program or options.litellm == "none" else litellm.NOT_INSTALLED
    made = figures(rounds, options.concurrency, options.rate, missing)
    return {
        "figures": [figure.as_json() for figure in [*made, *_memory_figures(memory, options.workers), log_figure(log)]],
        "machine": here | {"litellm": litellm.version_of(program) if program else None},
        "options": asdict(options) | {"litellm": str(program) if program else None},
        "cpus": {"load": sorted(bench.cores.load or ()), "gateway": sorted(bench.cores.gateway or ())},
        "resident_mb": resident,
        "soak": memory,
        "log": log,
        "notes": notes(rounds, bench.cores, options),
        "rounds": [{name: asdict(measured) for name, measured in each.items()} for each in rounds],
    }


def _start(stack: ExitStack, options: Options, work: Path, program: Path | None) -> Bench:
    share = cores(options.pin, available_cpus())
    flags = ["--fault", options.fault, *(["--at-once"] if options.at_once else [])]
    upstream = stack.enter_context(stub(work, share.load, *flags))
    settings = gateway_settings(work, upstream.url, options.workers)
    targets = [upstream, stack.enter_context(plaudit(settings, share.gateway))]
    if program is not None:
        targets.append(stack.enter_context(beside(program, upstream.url, work, share.gateway)))
    return Bench(options, share, settings, targets)


def soak(bench: Bench, report: Report) -> dict[str, Any]:
    """Many requests through Plaudit, its memory read at the start, after a tenth, at the end, and in between."""
    (target,) = (each for each in bench.targets if each.name == "plaudit")
    assert target.pid is not None
    total = bench.options.soak
    tenth = max(1, total // 10)
    start = resident_mb(target.pid)
    after: list[float] = []
    results: list[Result] = []
    with watched(target.pid) as highest:
        for number in range(10):
            report("soak", number / 10)
            requests = tenth if number < 9 else total - 9 * tenth
            results.append(bench.load(target, requests, concurrency=bench.options.concurrency, seconds=_SOAK_S))
            after.append(resident_mb(target.pid))
    report("soak", 1.0)
    return {
        "requests": sum(result.requests for result in results),
        "failed": sum(result.failed for result in results),
        "requests_per_s": [result.requests_per_s for result in results],
        "start_mb": start,
        "tenths_mb": after,
        "end_mb": after[-1],
        "processes_mb": each_mb(target.pid),
        "highest_mb": highest.mb,
    }


def _cpu_s(target: Target) -> float:
    return math.nan if target.pid is None else cpu_s(target.pid)


def _log_of(bench: Bench) -> dict[str, int]:
    """Good answers that Plaudit gave, and completion events in its log once all are there or time is up."""
    answered = bench.answered.get("plaudit", 0)
    deadline = time.monotonic() + _LOG_S
    while (events := completions_in(bench.settings.log_path)) < answered and time.monotonic() < deadline:
        time.sleep(0.1)
    return {"answered": answered, "events": events}


def completions_in(log: Path) -> int:
    """Completion events of answers that went well, counted row by row."""
    sql = "SELECT COUNT(*) FROM events WHERE topic = 'completions' AND json_extract(CAST(body AS TEXT), '$.outcome') = 'ok'"
    with closing(sqlite3.connect(f"file:{log}?mode=ro", uri=True)) as connection:
        return int(connection.execute(sql).fetchone()[0])


def notes(rounds: list[Round], share: Cores, options: Options) -> list[str]:
    """What a reader of the table should know."""
    wrong = Counter(
        f"{name}: {what}" for each in rounds for name, measured in each.items() for r in measured.results for what in r.failures
    )
    pinned = f"load on CPUs {sorted(share.load or ())}, gateways on CPUs {sorted(share.gateway or ())}"
    where = pinned if share.load else "all processes on any CPU"
    writes = "one write an answer" if options.at_once else "one write a chunk"
    said = f"{options.rounds} rounds, medians; {where}; the stub sends {writes}; {options.workers} worker(s) of the gateway."
    return [said, *(f"failed: {what} (in {count} runs)" for what, count in sorted(wrong.items()))]


def _memory_figures(memory: dict[str, Any] | None, workers: int) -> list[Figure]:
    if memory is None:
        return []
    each, tenth, end = memory["processes_mb"], memory["tenths_mb"][0], memory["end_mb"]
    asked = number(memory["requests"])
    words = f"start {memory['start_mb']:.0f}, after a tenth {tenth:.0f}, highest {memory['highest_mb']:.0f}"
    counted = f"; of its processes {', '.join(f'{mb:.0f}' for mb in each)}" if len(each) > 1 else ""
    return [
        Figure(f"memory after {asked} requests, MB", end, _MOST_MB * workers, note=words + counted),
        Figure("memory: growth since the first tenth, MB", end - tenth, _FLAT_MB, note=flatness(tenth, end)),
        Figure(f"failed of these {asked}", memory["failed"], 0),
    ]


def flatness(tenth_mb: float, end_mb: float) -> str:
    return "flat" if end_mb - tenth_mb <= _FLAT_MB else "not flat"


def log_figure(log: dict[str, int]) -> Figure:
    words = f"{number(log['events'])} events for {number(log['answered'])} answers"
    return Figure("answers without their event in the log", max(0, log["answered"] - log["events"]), 0, note=words)
