"""A cycle's commit, broken off at every single operation that changes the disk; then begun again.

Which operations there are is told by Python's own audit events; a file that a library writes by itself (safetensors) counts
when it is renamed into its place. ``kill``: SIGKILL before it, in a process of its own; ``full``: it and all after it fail, the
disk being full; ``broken``: it alone fails; ``stop``: SIGSTOP before it, and SIGCONT once another has taken over and is done.
Prints the operations as JSON, how often who was stopped learnt that it had been replaced, and every difference to a run that
nobody disturbed.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from commit_once import bytes_of, commit, loop, restart

from ops.registry import Registry
from trainer.checkpoint import CheckpointError, journal

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.utime", "os.truncate", "os.link", "os.symlink"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

REPLACED = 3
sleeping: list[int] = []

Work = Callable[[], object]
At = Callable[[int, str], None]


class Watch:
    """Calls ``at`` with number and name before each operation that changes the disk; an audit hook stays for ever."""

    def __init__(self) -> None:
        self._at: At | None = None
        self._count = 0
        sys.addaudithook(self._hook)

    def start(self, at: At | None) -> None:
        self._at, self._count = at, 0

    def _hook(self, event: str, arguments: tuple) -> None:
        if self._at is None or not (event in CHANGES or (event == "open" and arguments[2] & WRITING)):
            return
        at, self._at = self._at, None
        try:
            at(self._count, f"{event} {arguments[0]}")
        finally:
            self._at, self._count = at, self._count + 1


def kill(watch: Watch, work: Work, place: int) -> str:
    """What was not as it should be; nothing: a process of its own was killed before operation ``place`` of the work."""
    process = os.fork()
    if process:
        status = os.waitpid(process, 0)[1]
        return "" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL else f"ended with status {status}"
    watch.start(lambda count, what: os.kill(os.getpid(), signal.SIGKILL) if count == place else None)
    try:
        work()
    finally:
        os._exit(1)


def stop(watch: Watch, work: Work, place: int) -> str:
    """As `kill`, for a process that only sleeps; what it does once it goes on must change nothing."""
    process = os.fork()
    if not process:
        watch.start(lambda count, what: os.kill(os.getpid(), signal.SIGSTOP) if count == place else None)
        try:
            work()
        except CheckpointError:
            os._exit(REPLACED)
        finally:
            os._exit(0)
    status = os.waitpid(process, os.WUNTRACED)[1]
    if not os.WIFSTOPPED(status):
        return f"ended with status {status}"
    sleeping.append(process)
    return ""


def full(watch: Watch, work: Work, place: int) -> str:
    def at(count: int, what: str) -> None:
        if count >= place and not what.startswith(("os.remove", "os.rmdir")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return _failing(watch, work, at)


def broken(watch: Watch, work: Work, place: int) -> str:
    def at(count: int, what: str) -> None:
        if count == place:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    return _failing(watch, work, at)


def _failing(watch: Watch, work: Work, at: At) -> str:
    watch.start(at)
    try:
        with suppress(OSError, CheckpointError):  # or the work can do without the operation
            work()
    finally:
        watch.start(None)
    return ""


def woken(folder: Path) -> int:
    """Let who was stopped go on to its end; its exit status."""
    process = sleeping.pop()
    os.kill(process, signal.SIGCONT)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def grow_old(folder: Path) -> None:
    """The last sign of life was an hour ago."""
    for holder in folder.glob("adapters/.turns/*/*/holder.json"):
        os.utime(holder, (holder.stat().st_mtime - 3600,) * 2)


def wrong_after(folder: Path, expected: dict[str, bytes]) -> str:
    """Begin again where the disturbed one ended, and compare; nothing: all is as if it had not been disturbed."""
    loaded, kept = restart(folder)
    reward = (loaded.reward / "weights").read_text()
    if reward != f"reward of cycle {loaded.state.cycle}":
        return f"cycle {loaded.state.cycle} has the {reward}"
    if kept is not None and (kept.models / "weights").read_text() != f"learnt in cycle {kept.point.cycle}":
        return "the progress has another cycle's models"
    if kept is not None and kept.loop is not None:
        steps = len(kept.loop["steps"])
        if not torch.equal(kept.loop["weights"][0], loop(steps)["weights"][0]):
            return f"the state after {steps} steps is another's"
    if loaded.state.cycle == 1:
        commit(folder, 2)
    adapters = Registry(folder / "adapters").list("default")
    if [m.training["cycle_key"] for m in adapters] != ["key of 1", "key of 2"]:
        return f"published are {[m.id for m in adapters]}"
    if [line["adapter"] for line in journal(folder / "trainer")] != [m.id for m in adapters]:
        return "the journal tells something else"
    found = bytes_of(folder)
    return " ".join(sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)))


def main(folder: Path) -> None:
    commit(folder / "first", 1)
    here = folder / "here"

    def work() -> None:
        commit(here, 2)

    watch, operations = Watch(), list[str]()
    shutil.copytree(folder / "first", here)
    watch.start(lambda count, what: operations.append(what))
    work()
    watch.start(None)
    expected = bytes_of(here)
    problems, replaced = list[str](), 0
    for disturb in (kill, full, broken, stop):
        for place, operation in enumerate(operations):
            shutil.rmtree(here)
            shutil.copytree(folder / "first", here)
            problem = disturb(watch, work, place)
            if sleeping:
                grow_old(here)
                problem = wrong_after(here, expected)
                replaced += woken(here) == REPLACED
            problem = problem or wrong_after(here, expected)
            if problem:
                problems.append(f"{disturb.__name__} at {operation}: {problem}")
    print(json.dumps({"operations": operations, "replaced": replaced, "problems": problems}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
