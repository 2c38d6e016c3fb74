"""``plaudit bench log``: what it takes to keep a judgement for good, in the log alone and through HTTP.

The log's appends and bare SQLite's (the same table, row and pragmas) take turns in each round, on one disk. Through HTTP a
real ``plaudit serve`` takes ratings by their receipts, as a page sends them: one a request, and lists of them. Each is
answered once it is synced to disk; in the end the log must hold every one that was.

Rates through HTTP are those of so many connections to so many workers, all on one machine with the load generator: with
fewer CPUs than processes they tell about the machine.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from feedback.codec import encode
from feedback.database import connect, create_tables
from feedback.events import CompletionCreated, CompletionText, Event, Exposure, FeedbackSet, Message, Rating
from feedback.events import Target as Judged
from feedback.ids import uuid7
from feedback.log import PARTITIONS
from feedback.partition import partition_of
from feedback.receipts import Receipt, Receipts
from feedback.sqlite_log import SqliteLog
from ops.bench.load import Quantiles, quantiles_ms
from ops.bench.posts import Posted, Posts, apply
from ops.bench.table import Figure, machine, number
from ops.bench.targets import Cores, Target, available_cpus, cores, gateway_settings, plaudit, stub
from ops.bench.usage import cpu_s
from ops.open_log import open_log_of
from ops.progress import Report
from ops.receipt_keys import ReceiptKeys
from ops.settings import Settings

_RECEIPTS = 500
"""Answers that are judged, again and again: each judgement is an event of its own."""

_PROJECT = "default"
_USER = "0" * 32


@dataclass(frozen=True)
class Options:
    rounds: int = 5
    singles: int = 1000
    """Appends one at a time, in each round."""
    groups: int = 100
    """Appends of a group, in each round."""
    group: int = 100
    """Events of a group, and judgements of a list through HTTP."""
    requests: int = 5000
    """Through HTTP, of one judgement, in each round."""
    connections: int = 64
    rate: float = 500.0
    """Requests a second of the open loop."""
    steady_s: float = 4.0
    workers: int = 1
    pin: bool = True


@dataclass(frozen=True)
class Direct:
    """One round in this process."""

    single: Quantiles
    single_per_s: float
    bare_single: Quantiles
    bare_single_per_s: float
    grouped_per_s: float
    """Events a second."""
    bare_grouped_per_s: float


@dataclass(frozen=True)
class Served:
    """One round through HTTP."""

    one: Posted
    many: Posted
    lists: Posted
    steady: Posted
    cpu_ms: float
    """CPU time of the gateway for one of the many requests, in milliseconds."""
    list_cpu_ms: float
    """The same for one judgement of a list."""

    @property
    def all(self) -> list[Posted]:
        return [self.one, self.many, self.lists, self.steady]


def run(options: Options, folder: Path, report: Report) -> dict[str, Any]:
    """Measure everything; the report, fit for JSON, its figures first. What is written meanwhile, in ``folder``, is removed."""
    here = machine()
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="log-", dir=folder.absolute()))
    try:
        direct = []
        for each in range(options.rounds):
            report("the log alone", each / options.rounds)
            direct.append(measure_direct(options, work / f"direct-{each}"))
        report("the log alone", 1.0)
        share = cores(options.pin, available_cpus())
        served, kept = _measure_served(options, work, share, report)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    acknowledged = sum(posted.items for each in served for posted in each.all)
    made = [*direct_figures(direct, options), *served_figures(served, options), lost_figure(acknowledged, kept)]
    return {
        "figures": [figure.as_json() for figure in made],
        "machine": here,
        "options": asdict(options),
        "cpus": {"load": sorted(share.load or ()), "gateway": sorted(share.gateway or ())},
        "log": {"acknowledged": acknowledged, "events": kept},
        "notes": notes(served, share, options),
        "rounds": [asdict(a) | asdict(b) for a, b in zip(direct, served, strict=True)],
    }


# in this process


def measure_direct(options: Options, folder: Path) -> Direct:
    """The log and bare SQLite in turns: one at a time, then in groups."""
    folder.mkdir(parents=True)
    log = SqliteLog(folder / "log.db")
    bare = connect(folder / "bare.db")
    create_tables(bare, PARTITIONS)
    try:
        bare_single, bare_per_s = _timed(options.singles, lambda events: _insert(bare, events), 1)
        single, per_s = _timed(options.singles, log.append, 1)
        _, bare_groups_per_s = _timed(options.groups, lambda events: _insert(bare, events), options.group)
        _, groups_per_s = _timed(options.groups, log.append, options.group)
    finally:
        log.close()
        bare.close()
    size = options.group
    return Direct(single, per_s, bare_single, bare_per_s, groups_per_s * size, bare_groups_per_s * size)


def _timed(count: int, append: Callable[[list[Event]], object], size: int) -> tuple[Quantiles, float]:
    """Latencies of so many appends of ``size`` events, and appends a second."""
    batches = [[event(f"{at}") for at in range(size)] for _ in range(count)]
    seconds = []
    started = time.perf_counter()
    for batch in batches:
        before = time.perf_counter()
        append(batch)
        seconds.append(time.perf_counter() - before)
    return quantiles_ms(seconds), count / (time.perf_counter() - started)


def event(answer: str) -> Event:
    """A rating as a gateway writes it."""
    id, judged = "fb_" + uuid7(), f"chatcmpl-{answer}"
    data = FeedbackSet(
        feedback_id=id,
        target=Judged(completion_ids=(judged,)),
        rater=_USER,
        judgement=Rating(value=1),
        exposures=(Exposure(completion_id=judged, adapter="base"),),
    )
    return Event(id=id, time=time.time(), project=_PROJECT, key=f"conv_{answer}", data=data)


def _insert(connection: sqlite3.Connection, events: Sequence[Event]) -> None:
    """What SQLite itself takes for the log's row in one transaction, everything else left out but the encoding."""
    rows = []
    for each in events:
        body, headers = encode(each)
        text = json.dumps([(name, value.decode()) for name, value in headers])
        rows.append((each.topic, partition_of(each.key, PARTITIONS), each.id, each.time, text, body))
    connection.execute("BEGIN IMMEDIATE")
    sql = "INSERT INTO events (topic, partition, offset, id, time, headers, body) VALUES (?, ?, abs(random()), ?, ?, ?, ?)"
    connection.executemany(sql, rows)
    connection.execute("COMMIT")


# through HTTP


def _measure_served(options: Options, work: Path, share: Cores, report: Report) -> tuple[list[Served], int]:
    """The rounds, and the events that the log holds in the end."""
    with ExitStack() as stack:
        report("starting a gateway", 0.0)
        upstream = stack.enter_context(stub(work, share.load))
        settings = gateway_settings(work, upstream.url, options.workers)
        target = stack.enter_context(plaudit(settings, share.gateway))
        bodies = ratings(settings)
        served = []
        for each in range(options.rounds):
            report("through HTTP", each / options.rounds)
            served.append(measure_served(options, target, bodies, share))
        report("through HTTP", 1.0)
        return served, kept_in(settings.log_path)


def ratings(settings: Settings) -> tuple[str, ...]:
    """Bodies of requests, each with a receipt as if the gateway had given the answer; the answers are in its log."""
    receipts, now = Receipts(ReceiptKeys.of(settings)), time.time()
    bodies, answers = [], []
    for _ in range(_RECEIPTS):
        exposure, conversation = Exposure(completion_id=f"chatcmpl-{uuid7()}", adapter="base"), f"conv_{uuid7()}"
        answers.append(_answer(exposure, settings.project, conversation, now))
        receipt = Receipt(
            project=settings.project,
            target=Judged(completion_ids=(exposure.completion_id,)),
            exposures=(exposure,),
            user=_USER,
            conversation=conversation,
            issued=now,
            expires=now + 86_400,
        )
        bodies.append(json.dumps({"type": "rating", "value": 1, "receipt": receipts.seal(receipt)}))
    with open_log_of(settings) as log:
        log.append(answers)  # a judgement of an answer that is not there yet is kept waiting
    return tuple(bodies)


def _answer(exposure: Exposure, project: str, conversation: str, now: float) -> Event:
    data = CompletionCreated(
        completion_id=exposure.completion_id,
        conversation=conversation,
        user=_USER,
        text=CompletionText(messages=(Message(role="user", content="Hello"),), answer="Hello."),
        exposure=exposure,
    )
    return Event(id=exposure.completion_id, time=now, project=project, key=conversation, data=data)


def measure_served(options: Options, target: Target, bodies: tuple[str, ...], share: Cores) -> Served:
    url, size = f"{target.url}/v1/feedback", options.group
    lists = tuple(f"[{','.join(bodies[at : at + size])}]" for at in range(0, len(bodies), size))
    one = apply(Posts(url, bodies, max(1, options.requests // 10), warmup=20), share.load)
    before = _cpu(target)
    many = apply(Posts(url, bodies, options.requests, options.connections, warmup=options.connections), share.load)
    between = _cpu(target)
    listed = apply(Posts(url, lists, max(1, options.requests // size), min(8, options.connections), warmup=2), share.load)
    after = _cpu(target)
    paced = Posts(url, bodies, round(options.rate * options.steady_s), options.connections, options.rate, warmup=20)
    cpu_ms = 1000 * (between - before) / max(1, many.items)
    list_cpu_ms = 1000 * (after - between) / max(1, listed.items)
    return Served(one, many, listed, apply(paced, share.load), cpu_ms, list_cpu_ms)


def _cpu(target: Target) -> float:
    assert target.pid is not None
    return cpu_s(target.pid)


def kept_in(log: Path) -> int:
    """Feedback events in the file."""
    with closing(sqlite3.connect(f"file:{log}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM events WHERE topic = 'feedback'").fetchone()[0])


# figures


def direct_figures(rounds: Sequence[Direct], options: Options) -> list[Figure]:
    """Medians over rounds; bare SQLite stands beside."""

    def made(name: str, get: Callable[[Direct], float], bare: Callable[[Direct], float]) -> Figure:
        return Figure(name, median(map(get, rounds)), note=f"bare SQLite {number(median(map(bare, rounds)))}")

    size = f"log, groups of {options.group}:"
    return [
        made("log, one at a time: p50, ms", lambda r: r.single.p50, lambda r: r.bare_single.p50),
        made("log, one at a time: p99, ms", lambda r: r.single.p99, lambda r: r.bare_single.p99),
        made("log, one at a time: events/s", lambda r: r.single_per_s, lambda r: r.bare_single_per_s),
        made(f"{size} events/s", lambda r: r.grouped_per_s, lambda r: r.bare_grouped_per_s),
    ]


def served_figures(rounds: Sequence[Served], options: Options) -> list[Figure]:
    def of(get: Callable[[Served], float]) -> float:
        return median(map(get, rounds))

    many, steady = f"HTTP, {options.connections} connections:", f"HTTP, {options.rate:g} requests/s:"
    lists = f"HTTP, lists of {options.group}:"
    return [
        Figure("HTTP, one connection: p50, ms", of(lambda r: r.one.latency_ms.p50)),
        Figure("HTTP, one connection: p99, ms", of(lambda r: r.one.latency_ms.p99)),
        Figure(f"{many} requests/s", of(lambda r: r.many.requests_per_s), 5000, "least", f"{options.workers} worker(s)"),
        Figure(f"{many} p99, ms", of(lambda r: r.many.latency_ms.p99)),
        Figure(f"{many} CPU time a request, ms", of(lambda r: r.cpu_ms)),
        Figure(f"{lists} judgements/s", of(lambda r: r.lists.items_per_s), 5000, "least", f"{options.workers} worker(s)"),
        Figure(f"{lists} CPU time a judgement, ms", of(lambda r: r.list_cpu_ms)),
        Figure(f"{steady} p50, ms", of(lambda r: r.steady.latency_ms.p50)),
        Figure(f"{steady} p99, ms", of(lambda r: r.steady.latency_ms.p99), 5),
        Figure("failed requests", sum(posted.failed for each in rounds for posted in each.all), 0),
    ]


def lost_figure(acknowledged: int, kept: int) -> Figure:
    words = f"{number(kept)} events for {number(acknowledged)} acknowledged"
    return Figure("acknowledged and not in the log", max(0, acknowledged - kept), 0, note=words)


def notes(rounds: Sequence[Served], share: Cores, options: Options) -> list[str]:
    """What a reader of the table should know."""
    wrong = sorted({what for each in rounds for posted in each.all for what in posted.failures})
    where = (
        f"load on CPUs {sorted(share.load)}, gateway on CPUs {sorted(share.gateway or ())}"
        if share.load
        else "all processes on any CPU"
    )
    said = f"{options.rounds} rounds, medians; {where}; {options.workers} worker(s) of the gateway; every answer after its sync."
    return [said, *(f"failed: {what}" for what in wrong)]
