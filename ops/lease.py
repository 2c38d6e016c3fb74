"""A lease on a folder: one process at a time has it, on one machine or on a volume that many share.

The holder has the folder's last turn (`ops.turns`) and gives a sign of life every `BEAT_S` seconds. Another may take over

- at once when the holder gave it back, or died on this machine: the kernel frees a dead process's lock;
- `LEASE_S` seconds after the last sign of life otherwise: a machine that is gone, or a process that was stopped.

Ages are differences of times that the volume itself has stamped on two files, so that machines' clocks need not agree. A holder
that was only stopped finds out when it goes on: its turn is over, and nothing that it writes can land.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import structlog

from feedback.ids import uuid7
from ops import turns

LEASE_S = 30.0
"""Without a sign of life for so long, the holder counts as gone."""

BEAT_S = 5.0

_HOLDER = "holder.json"
_RELEASED = "released"

_logger = structlog.get_logger(__name__)


class LeaseHeld(Exception):
    """Another process has the lease, and is alive as far as can be known."""


@dataclass(frozen=True)
class Holder:
    """``kernel`` is the running kernel's id: containers of one machine share it, and with it their locks."""

    host: str
    pid: int
    kernel: str


_NOBODY = Holder("a machine not known", 0, "")


@contextmanager
def held(folder: Path, at_least: int = 1, *, lease_s: float = LEASE_S, beat_s: float = BEAT_S) -> Iterator[Path]:
    """Hold the lease on ``folder``; gives the own turn's folder, whose number is ``at_least`` that.

    Raises `LeaseHeld`. What is written during the block has to go through `ops.turns.land`.
    """
    last = turns.latest(folder)
    if last and (holder := _alive(folder, last, lease_s)):
        raise LeaseHeld(f"process {holder.pid} on {holder.host} has it")
    with ExitStack() as files:

        def sign(draft: Path) -> None:
            file = files.enter_context((draft / _HOLDER).open("x"))
            _lock(file)  # before anybody can find it
            json.dump(asdict(Holder(platform.node(), os.getpid(), _kernel())), file)
            file.flush()

        try:
            own = turns.take(folder, max(last + 1, at_least), sign)
        except turns.TurnLost as error:
            raise LeaseHeld("somebody else took it at the same moment") from error
        try:
            with turns.within(own), _beating(own / _HOLDER, beat_s):
                yield own
        finally:
            with suppress(OSError):  # of one that is over there is nothing left to give back
                (own / _RELEASED).touch()


def _alive(folder: Path, number: int, lease_s: float) -> Holder | None:
    """Who has the turn, if it is alive or may be."""
    turn = folder / turns.name_of(number)
    if (turn / _RELEASED).exists():
        return None
    try:
        with (turn / _HOLDER).open("r+") as file:  # opening it makes NFS ask the server for its times
            holder = _read(file)
            if holder.kernel == _kernel() and _lock(file):
                return None
            age = _since(folder, os.fstat(file.fileno()).st_mtime)
    except FileNotFoundError:  # gone this moment: somebody is taking the next turn
        return _NOBODY
    return holder if age <= lease_s else None


def _read(file: IO[str]) -> Holder:
    try:
        return Holder(**json.load(file))
    except (ValueError, TypeError):  # a machine that lost its power wrote half of it
        return _NOBODY


def _since(folder: Path, then: float) -> float:
    """Seconds between ``then``, a time of a file on the volume, and now on the same volume's clock."""
    probe = folder / f".probe-{uuid7()}"
    try:
        probe.touch()
        return abs(probe.stat().st_mtime - then)  # a clock that was put back by more than a lease says nothing of life either
    finally:
        probe.unlink(missing_ok=True)


def _lock(file: IO[str]) -> bool:
    """Whether the file's lock is ours now; the kernel frees it when the process dies. A volume without locks gives none."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def _beating(path: Path, beat_s: float) -> Iterator[None]:
    done = threading.Event()

    def beat() -> None:
        while not done.wait(beat_s):
            try:
                os.utime(path)
            except FileNotFoundError:
                _logger.error("lease_lost", folder=str(path.parent))
                return
            except OSError as error:
                _logger.warning("lease_beat_failed", error=str(error))

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _kernel() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()
