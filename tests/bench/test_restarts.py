"""Rolling restarts, driven against a process that keeps the gateway's promise, or does not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sse_gateway import gateway, whole

from ops.bench.restarts import NotRolled, Rolls, roll
from ops.bench.streams import Streams

PARENT = """
import json, os, signal, sys
def tell():
    open("draft", "w").write(json.dumps({"pid": os.getpid(), "generation": generation, "workers": workers}))
    os.rename("draft", "gateway.json")
generation, workers = 0, [1, 2]
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
tell()
while signal.sigwait([signal.SIGHUP]):
    generation, workers = generation + 1, {"all": [w + 2 for w in workers], "one": [workers[0], workers[1] + 1]}[sys.argv[1]]
    tell()
"""


@contextmanager
def parent(folder: Path, replaces: str) -> Iterator[None]:
    """A gateway's parent process that replaces ``all`` of its two workers at SIGHUP, or ``one``."""
    process = subprocess.Popen([sys.executable, "-c", PARENT, replaces], cwd=folder)
    try:
        yield
    finally:
        process.kill()
        process.wait(10)


async def rolled(folder: Path, restarts: int, timeout_s: float = 10) -> tuple[Rolls, int]:
    """What came of the restarts, and how many requests there were."""
    async with gateway(lambda number, _: whole(number)) as url, Streams(url, "key", 2) as load:
        rolls = await roll(folder, load, 2, restarts, lambda what, share: None, timeout_s=timeout_s)
    return rolls, load.tally.requests


async def test_each_restart_is_waited_for_under_load_and_none_of_the_old_workers_is_left(tmp_path: Path):
    with parent(tmp_path, "all"):
        rolls, requests = await rolled(tmp_path, 3)
    assert (rolls.done, rolls.kept, len(rolls.seconds)) == (3, 0, 3)
    assert requests >= 4 * 4  # two answers for each of two streams before, between and after the restarts


async def test_a_worker_that_stays_is_counted_at_every_restart(tmp_path: Path):
    with parent(tmp_path, "one"):
        rolls, _ = await rolled(tmp_path, 2)
    assert (rolls.done, rolls.kept) == (2, 2)


async def test_a_gateway_that_does_not_say_who_works_is_told_of(tmp_path: Path):
    with pytest.raises(NotRolled, match=r"gateway.json: no generation after -1 within"):
        await rolled(tmp_path, 1, timeout_s=0.1)
