"""A child process with all its descendants: started together, ended together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from ops.process import die_with_parent

_TERM_S = 3.0  # from SIGTERM to SIGKILL
_KILL_S = 1.5  # from SIGKILL to giving up on seeing them gone
_POLL_S = 0.05


class ProcessGroup:
    """The leader is a child of ours and of its own session; its process id is the group's id.

    The leader gets SIGTERM when we die without a chance to stop it (Linux), so that it can end its own children.
    """

    def __init__(self, leader: asyncio.subprocess.Process) -> None:
        self._leader = leader
        self.id = leader.pid

    @classmethod
    async def start(cls, argv: Sequence[str], environment: Mapping[str, str], output: Path) -> ProcessGroup:
        """Start ``argv``; its output is appended to the file ``output``."""
        with output.open("ab") as sink:
            leader = await asyncio.create_subprocess_exec(
                *argv,
                env=dict(environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        return cls(leader)

    async def wait(self) -> int:
        """The leader's exit status (negative: the signal that ended it)."""
        return await self._leader.wait()

    async def stop(self) -> None:
        """SIGTERM to all, SIGKILL to those left after three seconds; returns within five."""
        for sent, seconds in ((signal.SIGTERM, _TERM_S), (signal.SIGKILL, _KILL_S)):
            _signal(self.id, sent)
            if await self._gone(seconds):
                break
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._leader.wait(), _POLL_S)

    async def _gone(self, seconds: float) -> bool:
        deadline = asyncio.get_running_loop().time() + seconds
        while is_running(self.id):
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return True


def is_running(group: int) -> bool:
    """Whether any process of the group is alive; a zombie that nobody reaps is not."""
    if not _signal(group, 0):
        return False
    proc = Path("/proc")
    if not (proc / "self" / "stat").exists():
        return True
    return any(_stat(entry) == (group, True) for entry in proc.iterdir() if entry.name.isdigit())


def end_leftover(group: int, mark: str) -> bool:
    """Kill a group left behind by somebody who died, if its leader's command line still contains ``mark``."""
    try:
        command = Path(f"/proc/{group}/cmdline").read_bytes()
    except OSError:
        return False
    return os.fsencode(mark) in command.split(b"\0") and _signal(group, signal.SIGKILL)


def _stat(entry: Path) -> tuple[int, bool]:
    """(process group, alive) of one process; (-1, False) when it is gone (proc_pid_stat(5): the name may hold blanks)."""
    try:
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return -1, False
    return int(fields[2]), fields[0] not in "ZX"


def _signal(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
