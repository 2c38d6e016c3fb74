"""The log's file while each single step to the disk goes wrong, in processes that are forked for it."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from feedback.log import LogUnavailable
from feedback.sqlite_log import SqliteLog
from ops.chaos.ledger import Ledger, numbered
from ops.chaos.scenario import Outcome, Size
from ops.chaos.sqlite_faults import ACTIONS, Action, Faults, sqlite

_GROUP = 3
"""Events of one transaction."""

_CHECKPOINT_PAGES = 6
"""The log is copied from the WAL to the file so often, that this is done under faults too."""


class _Ended(NamedTuple):
    steps: int
    """To the disk; -1: it was killed."""
    refused: int
    """Transactions that were not acknowledged."""


@contextmanager
def opened(folder: Path, size: Size) -> Iterator[Path]:
    sqlite()
    yield folder


def every_step(folder: Path, size: Size) -> Outcome:
    """At each write, sync and truncation: no room, an error, SIGKILL, SIGKILL half-way, a power cut. (Short: one of them.)"""
    groups = 20 if size == "full" else 5
    total = _run(folder / "whole", Ledger(), "full", 0, groups).steps
    cases = [(at, action) for at in range(1, total + 1) for action in (ACTIONS if size == "full" else (ACTIONS[at % 5],))]
    acknowledged = lost = doubled = reordered = faults = 0
    problems: list[str] = []
    for at, action in cases:
        place, ledger = folder / f"{action} {at}", Ledger()
        ended = _run(place, ledger, action, at, groups)
        faults += ended.steps < 0 or ended.steps >= at
        with _log(place) as log:
            found = ledger.check_log(log)
            log.append([numbered("afterwards", 0, time.time())])
        problems += [] if _is_whole(place) else [f"{action} at step {at}: the file is damaged"]
        if found.lost or found.doubled or found.reordered:
            problems.append(f"{action} at step {at} of {total}: {found}")
        acknowledged, lost = acknowledged + found.acknowledged, lost + found.lost
        doubled, reordered = doubled + found.doubled, reordered + found.reordered
        for path in place.parent.glob(f"{place.name}*"):
            path.unlink()
    note = f"{total} steps to the disk"
    return Outcome(faults, acknowledged, lost, doubled, reordered, problems=tuple(problems), note=note)


def _run(place: Path, ledger: Ledger, action: Action, at: int, groups: int) -> _Ended:
    """Append under a fault, in a process of its own; ``ledger`` is told what it acknowledged."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        status = 1
        try:
            _append(place, Faults(action, at), groups, writing)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as said:
        lines = [line.split() for line in said if line.endswith("\n")]
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"appending under a fault ({action} at {at}) ended with {os.WEXITSTATUS(status)}")
    for word, *numbers in lines:
        if word == "acknowledged":
            for number in numbers:
                ledger.note("key", int(number))
    (last,) = [line for line in lines if line[0] == "ended"] or [["ended", "-1", "0"]]
    return _Ended(int(last[1]), int(last[2]))


def _append(place: Path, faults: Faults, groups: int, writing: int) -> None:
    refused = 0
    log = None
    while log is None:
        try:
            log = SqliteLog(place)
        except LogUnavailable:
            refused += 1
    log.transact(lambda c: c.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}").fetchone()).result(10)
    for group in range(groups):
        numbers = range(_GROUP * group, _GROUP * (group + 1))
        while True:
            try:
                log.append([numbered("key", number, 0.0) for number in numbers])
            except LogUnavailable:
                refused += 1
                continue
            break
        os.write(writing, f"acknowledged {' '.join(map(str, numbers))}\n".encode())
    log.close()
    os.write(writing, f"ended {faults.steps} {refused}\n".encode())


@contextmanager
def _log(place: Path) -> Iterator[SqliteLog]:
    log = SqliteLog(place)
    try:
        yield log
    finally:
        log.close()


def _is_whole(place: Path) -> bool:
    with closing(sqlite3.connect(place)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))
