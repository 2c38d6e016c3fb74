"""One process that starts the others, restarts what dies, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from ops.process import die_with_parent

_LOG = structlog.get_logger()
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.5, 30.0
_USER_ERROR = 2
_STABLE_S = 60.0
"""A child that lived so long starts again at the first backoff."""


@dataclass(frozen=True)
class ChildSpec:
    name: str
    argv: Sequence[str]
    log_path: Path


@dataclass
class _Child:
    spec: ChildSpec
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    restart_at: float = 0.0
    backoff: float = _FIRST_BACKOFF_S
    restarts: int = field(default=0)
    status: int | None = None
    """Exit status of its last end."""


class Supervisor:
    """Runs children, each in a session of its own, its output in a log file; not thread-safe.

    A child that ends is started again after a growing pause. `stop` sends SIGTERM to all at once, then SIGKILL to the
    process groups that are left. Should the supervisor itself be killed, the kernel ends its children (Linux).
    """

    def __init__(self, specs: Sequence[ChildSpec], environment: Mapping[str, str]) -> None:
        self._children = [_Child(spec) for spec in specs]
        self._environment = dict(environment)

    def start(self) -> None:
        for child in self._children:
            self._start(child)

    def check(self) -> None:
        """Restart what has ended and has waited long enough."""
        now = time.monotonic()
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                self._note_death(child, now)
            if child.process is None and now >= child.restart_at:
                child.restarts += 1
                self._start(child)

    def watch(self, stop: threading.Event, interval_s: float = 0.5) -> None:
        """Keep the children running until ``stop`` is set."""
        while not stop.wait(interval_s):
            self.check()

    def restarts(self) -> dict[str, int]:
        """How often each child has been started again."""
        return {child.spec.name: child.restarts for child in self._children}

    def refused(self) -> list[ChildSpec]:
        """Children whose last end was for something only the user can mend (exit status 2, see ``ops.errors``)."""
        return [child.spec for child in self._children if child.status == _USER_ERROR]

    def pids(self) -> dict[str, int]:
        """Process ids of the running children, by name."""
        return {child.spec.name: child.process.pid for child in self._children if child.process is not None}

    def stop(self, timeout_s: float = 8.0) -> None:
        """End all children within about ``timeout_s`` seconds."""
        running = [child.process for child in self._children if child.process is not None]
        for process in running:
            _signal_group(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _LOG.warning("child.killed", pid=process.pid)
            _signal_group(process.pid, signal.SIGKILL)
            process.wait(timeout_s)
        for child in self._children:
            child.process = None

    def _start(self, child: _Child) -> None:
        child.spec.log_path.parent.mkdir(parents=True, exist_ok=True)
        with child.spec.log_path.open("ab") as output:
            child.process = subprocess.Popen(
                child.spec.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        child.started = time.monotonic()

    def _note_death(self, child: _Child, now: float) -> None:
        assert child.process is not None
        if now - child.started > _STABLE_S:
            child.backoff = _FIRST_BACKOFF_S
        _LOG.warning("child.died", child=child.spec.name, status=child.process.returncode, restart_in_s=child.backoff)
        _signal_group(child.process.pid, signal.SIGKILL)  # what it may have left behind
        child.status = child.process.returncode
        child.process, child.restart_at = None, now + child.backoff
        child.backoff = min(child.backoff * 2, _LONGEST_BACKOFF_S)


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return
