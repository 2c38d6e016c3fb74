"""``plaudit bench swap``: adapters change and gateways restart under constant load, on the real engine.

Every adapter says its own word, so each answer shows who made it: all of it must be one adapter's, and that the one its
completion event names. A swap is timed from the new adapter's publication, as its manifest has it, to the first token that
somebody gets of it; it is published and promoted at once. The next one follows when the last is live.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from feedback.events import BASE, AdapterLive
from feedback.log import TopicReader
from ops.bench.answers import Checked, check, named_in
from ops.bench.load import quantile
from ops.bench.numbers import NumberToken, number_tokens, write_number_adapter
from ops.bench.restarts import Rolls, roll
from ops.bench.stage import Stage, stage
from ops.bench.streams import Streams, Tally
from ops.bench.table import Figure, machine, print_figures, write_json
from ops.bench.targets import Target
from ops.errors import CommandError
from ops.progress import Report, progress_bar
from ops.up import stop_on_signals

_LIVE_S = 30.0
"""An adapter that nobody has heard by then never will be heard."""

_STEADY_S = 60.0
_UNLOADED_S = 15.0
_POLL_S = 0.1
_NULL = "plaudit-null"
"""Stands for the base on engines that need it (`serving.null_adapter`); always loaded."""

_MOST_P50_S, _MOST_P99_S = 1.0, 2.0

Staged = Sequence[tuple[NumberToken, Path]]
"""Words, and the folders of the adapters that say them."""


@dataclass
class Swaps:
    """What came of the swaps: seconds from publication to first token, and the adapter of each word."""

    seconds: list[float] = field(default_factory=list)
    adapters: dict[str, str] = field(default_factory=dict)
    latest: str = BASE


def run(*, swaps: int = 100, streams: int = 32, engines: int = 1, restarts: int = 20, json: Path | None = None) -> dict[str, Any]:
    """Measure, print the table, write ``json``; the report, fit for JSON. What was started is stopped whatever happens."""
    stop_on_signals()
    here = machine()
    with progress_bar() as report, stage(engines) as on:
        report("starting", 0.0)
        staged = _staged(on, swaps + 1)
        made = Swaps()
        _publish(on, made, *staged[0])
        with on.gateway() as gateway:
            report("starting", 1.0)
            figures, about = asyncio.run(_measure(on, gateway, made, staged[1:], streams, restarts, report))
    print_figures(f"Hot swap: {engines} engine(s), {streams} streams", figures, about["notes"])
    options = {"swaps": swaps, "streams": streams, "engines": engines, "restarts": restarts}
    whole = {"figures": [figure.as_json() for figure in figures], **about, "options": options, "machine": here}
    if json is not None:
        write_json(json, whole)
    return whole


async def _measure(
    on: Stage, gateway: Target, made: Swaps, staged: Staged, streams: int, restarts: int, report: Report
) -> tuple[list[Figure], dict[str, Any]]:
    """The figures, and what else is worth keeping."""
    async with Streams(gateway.url, gateway.key, streams) as load:
        await load.more(streams, _STEADY_S)
        began, before = time.monotonic(), load.tally.requests
        await _swap_all(on, load, made, staged, report)
        rate = (load.tally.requests - before) / (time.monotonic() - began)
    left = await _left(on, made.latest)
    rolls, restarted = await _restart(on, gateway, streams, restarts, report)
    named = await asyncio.to_thread(named_in, on.log, [*load.tally.said, *restarted.said])
    swapped, rolled = (check(tally.said, made.adapters, named) for tally in (load.tally, restarted))
    figures = [*_swap_figures(made, load.tally, swapped, left), *_restart_figures(rolls, restarted, rolled)]
    live = _publication_to_live(on, list(made.adapters.values())[1:])
    probed = f"publication to the end of the probe: p50 {quantile(live, 0.5):.2f} s, p99 {quantile(live, 0.99):.2f} s."
    held = f"{rate:.0f} answers a second; at the end the engines hold {'; '.join(map(_list, left))}."
    return figures, {
        "notes": [probed, held, *(f"failed: {what}" for what in (*load.tally.failures, *restarted.failures))],
        "answers_per_s": round(rate, 1),
        "swap_s": [round(each, 4) for each in made.seconds],
        "live_s": [round(each, 4) for each in live],
        "restart_s": [round(each, 3) for each in rolls.seconds],
        "left": [sorted(each) for each in left],
    }


def _staged(on: Stage, count: int) -> Staged:
    """So many adapters on disk, unpublished."""
    model, folder = Path(on.model.path), on.settings.data_dir / "staging"
    return [
        (token, write_number_adapter(folder / str(number), model, number, token))
        for number, token in enumerate(number_tokens(model, count))
    ]


def _publish(on: Stage, made: Swaps, token: NumberToken, staging: Path) -> float:
    """Publish and promote; the Unix time of the publication."""
    manifest = on.publish(staging, made.latest)
    made.adapters[token.word] = made.latest = manifest.id
    on.promote(manifest.id, len(made.adapters))
    return manifest.published


async def _swap_all(on: Stage, load: Streams, made: Swaps, staged: Staged, report: Report) -> None:
    for number, (token, staging) in enumerate(staged):
        report("swaps", number / len(staged))
        published = await asyncio.to_thread(_publish, on, made, token, staging)
        try:
            first = await load.heard(token.word, _LIVE_S)
        except TimeoutError as error:
            what = f"{made.latest}: no token of it within {_LIVE_S:.0f} s"
            raise CommandError(f"{what}; the gateway's log ends with:\n{on.gateway_log_tail()}") from error
        made.seconds.append(first - published)
    report("swaps", 1.0)


async def _restart(on: Stage, gateway: Target, streams: int, restarts: int, report: Report) -> tuple[Rolls, Tally]:
    if not restarts:
        return Rolls(), Tally()
    async with Streams(gateway.url, gateway.key, streams) as load:
        try:
            rolls = await roll(on.settings.run_dir, load, streams, restarts, report)
        except TimeoutError as error:
            raise CommandError(f"{error}; the gateway's log ends with:\n{on.gateway_log_tail()}") from error
    return rolls, load.tally


async def _left(on: Stage, champion: str) -> list[set[str]]:
    """What the engines hold once it is the champion alone, or time is up."""
    deadline = time.monotonic() + _UNLOADED_S
    while True:
        held = [each - {_NULL} for each in await on.loaded()]
        if all(each == {champion} for each in held) or time.monotonic() > deadline:
            return held
        await asyncio.sleep(_POLL_S)


def _publication_to_live(on: Stage, adapters: Iterable[str]) -> list[float]:
    """Seconds from publication to the end of the probe, as the gateway told the log; sorted."""
    ours = set(adapters)
    events = [record.event.data for record in TopicReader(on.log, "control").drain()]
    return sorted(data.seconds for data in events if isinstance(data, AdapterLive) and data.adapter in ours and not data.reload)


def _swap_figures(made: Swaps, tally: Tally, checked: Checked, left: list[set[str]]) -> list[Figure]:
    seconds = sorted(made.seconds)
    superfluous = sum(len(each - {made.latest}) for each in left)
    return [
        Figure("swaps", len(seconds), note=f"{tally.requests} requests meanwhile; {_crossed(tally)} met by running answers"),
        Figure("publish → first token p50, s", quantile(seconds, 0.5), _MOST_P50_S),
        Figure("publish → first token p99, s", quantile(seconds, 0.99), _MOST_P99_S),
        Figure("publish → first token, longest, s", seconds[-1] if seconds else float("nan")),
        Figure("swaps: failed requests", tally.failed, 0),
        Figure("swaps: mixed answers", checked.mixed, 0),
        Figure("swaps: answers of another adapter than the log says", checked.misnamed, 0),
        Figure("swaps: answers missing in the log", checked.unlogged, 0),
        Figure("swaps: old adapters left on the engines", superfluous, 0),
    ]


def _restart_figures(rolls: Rolls, tally: Tally, checked: Checked) -> list[Figure]:
    if not rolls.done:
        return []
    return [
        Figure("rolling restarts", rolls.done, note=f"{tally.requests} requests meanwhile, {tally.reconnects} reconnects"),
        Figure("restarts: signal → new workers p50, s", quantile(sorted(rolls.seconds), 0.5)),
        Figure("restarts: failed requests", tally.failed, 0),
        Figure("restarts: mixed or misnamed answers", checked.mixed + checked.misnamed, 0),
        Figure("restarts: answers missing in the log", checked.unlogged, 0),
        Figure("restarts: workers that were not replaced", rolls.kept, 0),
    ]


def _crossed(tally: Tally) -> int:
    """How many new adapters gave their first token before the last answer of the one before them had ended."""
    ordered = sorted(tally.first, key=lambda word: tally.first[word])
    return sum(tally.last.get(old, 0.0) > tally.first[new] for old, new in pairwise(ordered))


def _list(adapters: set[str]) -> str:
    return ", ".join(sorted(adapters)) or "no adapter"
