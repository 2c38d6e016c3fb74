"""Rolling restarts of a gateway under load: its parent is told SIGHUP, and new workers take over from the old ones."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from ops.bench.streams import Streams
from ops.progress import Report

_ROLL_TIMEOUT_S = 60.0
_POLL_S = 0.05
_ANSWERS_BETWEEN = 2
"""Answers for each stream between two restarts, so that every worker's connections are in use when it is replaced."""


@dataclass(frozen=True)
class Generation:
    """What the gateway says of its workers in ``run/gateway.json``."""

    pid: int
    generation: int
    workers: frozenset[int]


@dataclass
class Rolls:
    """``kept``: workers that were the same after a restart as before. ``seconds``: from the signal to the new workers."""

    done: int = 0
    kept: int = 0
    seconds: list[float] = field(default_factory=list)


class NotRolled(TimeoutError):
    """The gateway did not tell of a new generation in time."""


async def roll(
    run_dir: Path, load: Streams, streams: int, restarts: int, report: Report, *, timeout_s: float = _ROLL_TIMEOUT_S
) -> Rolls:
    """Restart the gateway so many times, one after the other, while ``load`` runs. Raises `NotRolled`."""
    rolls = Rolls()
    now = await _generation(run_dir, -1, timeout_s)
    for number in range(restarts):
        report("restarts", number / restarts)
        await load.more(_ANSWERS_BETWEEN * streams, timeout_s)
        before, started = now, time.monotonic()
        os.kill(before.pid, signal.SIGHUP)
        now = await _generation(run_dir, before.generation, timeout_s)
        rolls.seconds.append(time.monotonic() - started)
        rolls.done += 1
        rolls.kept += len(before.workers & now.workers)
    report("restarts", 1.0)
    await load.more(_ANSWERS_BETWEEN * streams, timeout_s)
    return rolls


async def _generation(run_dir: Path, after: int, timeout_s: float) -> Generation:
    """The workers, once they are of a later generation than ``after``."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = _read(run_dir / "gateway.json")
        if found is not None and found.generation > after:
            return found
        await asyncio.sleep(_POLL_S)
    raise NotRolled(f"{run_dir / 'gateway.json'}: no generation after {after} within {timeout_s:.0f} s")


def _read(path: Path) -> Generation | None:
    try:
        told = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return Generation(told["pid"], told["generation"], frozenset(told["workers"]))
