"""The gateway's parent process: it owns the listening sockets, keeps ``workers`` processes on them, and replaces them.

It imports the standard library alone, and so needs little memory however long it runs; `serving.serve` reads settings.
SIGHUP replaces all workers by new ones with the settings and the code of now: the new ones are ready before the old
ones stop accepting, and the sockets (host and port stay) are open all the time, so no connection is refused. SIGTERM
and SIGINT end it all.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ops.errors import UserError
from ops.ports import bind
from ops.process import as_child, module
from serving.plan import Plan, read_plan

READY_WITHIN_S = 30.0
"""How long a worker that replaces another waits for engines and adapters before it takes requests all the same."""

_BACKLOG = 2048
_START_S = 90.0
_BACKOFF_S = (0.5, 15.0)
_KILL_AFTER_S = 3.0
_TICK_S = 0.2
_USER_ERROR = 2
_MALLOC_ARENAS = "2"
"""Memory pools of the C library: left alone it has eight a core, and what its threads free stays in each."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


@dataclass
class Worker:
    slot: int
    """Its number among the workers; who replaces it gets the same."""
    process: subprocess.Popen[bytes]
    ready_fd: int
    """The read end of a pipe on which it tells that it listens."""
    listens: bool = False
    started: float = field(default_factory=time.monotonic)
    kill_at: float | None = None

    def is_ready(self) -> bool:
        """Whether it listens."""
        if self.ready_fd >= 0:
            try:
                self.listens = bool(os.read(self.ready_fd, 1))
            except BlockingIOError:
                return False
            self._close()
        return self.listens

    def has_ended(self) -> bool:
        if self.process.poll() is None:
            return False
        self._close()
        return True

    def _close(self) -> None:
        if self.ready_fd >= 0:
            os.close(self.ready_fd)
            self.ready_fd = -1


class Workers:
    """Not thread-safe; call `run` in the main thread."""

    def __init__(self, plan: Plan, sockets: Sequence[socket.socket], flags: str) -> None:
        """``flags``: what a plan is read with, at a SIGHUP."""
        self._plan, self._sockets, self._flags = plan, sockets, flags
        self._now: list[Worker] = []
        self._fresh: list[Worker] = []
        self._leaving: list[Worker] = []
        self._generation = 0
        self._asked = False
        """A SIGHUP has come that no new generation has answered yet."""
        self._start_at = 0.0
        self._backoff_s = _BACKOFF_S[0]
        self._told: list[int] = []
        """Process ids of the workers that ``run/gateway.json`` names."""

    def run(self) -> int:
        """Until SIGTERM or SIGINT; the exit status."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._now = [self._start(slot, 0.0) for slot in range(self._plan.workers)]
        self._tell()
        while True:
            came = signal.sigtimedwait(_SIGNALS, _TICK_S)
            number = came.si_signo if came is not None else None
            if number in (signal.SIGTERM, signal.SIGINT):
                return self._stop()
            self._asked = self._asked or number == signal.SIGHUP
            if self._asked and not self._fresh:
                self._asked = False
                self._renew()
            if self._refused_at_start():
                self._stop()
                return _USER_ERROR
            self._tend()

    def _renew(self) -> None:
        """Start the next generation, with the settings of now."""
        try:
            self._plan = read_plan(self._flags)
        except UserError as error:
            _log("error", "settings_not_reloaded", error=str(error))
            return
        self._fresh = [self._start(slot, READY_WITHIN_S) for slot in range(self._plan.workers)]

    def _refused_at_start(self) -> bool:
        """Whether something that only the user can mend ended a worker before any has listened."""
        if self._generation or any(worker.is_ready() for worker in self._now):
            return False
        return any(worker.process.poll() == _USER_ERROR for worker in self._now)

    def _tend(self) -> None:
        now = time.monotonic()
        self._replace_ended(now)
        self._hand_over(now)
        self._tell()
        for worker in self._leaving:
            if worker.kill_at is not None and now > worker.kill_at and not worker.has_ended():
                _log("warning", "worker_killed", pid=worker.process.pid)
                worker.process.kill()
        self._leaving = [worker for worker in self._leaving if not worker.has_ended()]

    def _replace_ended(self, now: float) -> None:
        """Start another worker for each that has died, after a pause that grows."""
        ended = [worker for worker in self._now if worker.has_ended()]
        for worker in ended:
            if now - worker.started > _BACKOFF_S[1]:
                self._backoff_s = _BACKOFF_S[0]
            _log("warning", "worker_died", pid=worker.process.pid, status=worker.process.returncode, restart_in_s=self._backoff_s)
            self._start_at = now + self._backoff_s
            self._backoff_s = min(2 * self._backoff_s, _BACKOFF_S[1])
            self._now.remove(worker)
        if len(self._now) < self._plan.workers and now >= self._start_at:
            free = set(range(self._plan.workers)) - {worker.slot for worker in self._now}
            self._now += [self._start(slot, 0.0) for slot in sorted(free)]

    def _hand_over(self, now: float) -> None:
        """Once all new workers are ready, the old ones leave. If one of the new ones fails, the old ones stay."""
        if not self._fresh:
            return
        if any(worker.has_ended() for worker in self._fresh) or now - self._fresh[0].started > _START_S:
            _log("error", "workers_not_replaced", reason="a new worker did not become ready; the old ones go on")
            for worker in self._fresh:
                worker.process.kill()
            self._leaving += self._fresh
            self._fresh = []
        elif all(worker.is_ready() for worker in self._fresh):
            for worker in self._now:
                worker.process.send_signal(signal.SIGUSR1)
                worker.kill_at = now + self._plan.request_timeout_s + READY_WITHIN_S
            self._leaving += self._now
            self._now, self._fresh = self._fresh, []
            self._generation += 1
            _log("info", "workers_replaced", generation=self._generation)

    def _start(self, slot: int, ready_within_s: float) -> Worker:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        fds = [listening.fileno() for listening in self._sockets]
        process = subprocess.Popen(
            module("serving.worker", *map(str, (slot, writing, ready_within_s, *fds))),
            pass_fds=(writing, *fds),
            stdin=subprocess.DEVNULL,
            env={"MALLOC_ARENA_MAX": _MALLOC_ARENAS} | self._plan.environment,
            preexec_fn=as_child,
        )
        os.close(writing)
        return Worker(slot, process, reading)

    def _stop(self) -> int:
        """Take no connection more, and end all workers: politely, then not."""
        for listening in self._sockets:
            listening.close()
        workers = [*self._now, *self._fresh, *self._leaving]
        for worker in workers:
            if not worker.has_ended():
                worker.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._plan.drain_s + _KILL_AFTER_S
        for worker in workers:
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        return 0

    def _tell(self) -> None:
        """Who runs, for operators and scripts: ``run/gateway.json``. A full disk is asked again at the next tick."""
        workers = [worker.process.pid for worker in self._now]
        if workers == self._told or len(workers) < self._plan.workers:
            return
        state = {"pid": os.getpid(), "generation": self._generation, "workers": workers}
        path = Path(self._plan.run_dir) / "gateway.json"
        draft = path.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            draft.write_text(json.dumps(state))
            draft.rename(path)
            self._told = workers


def _listen(setting: str, host: str, port: int) -> socket.socket:
    listening = bind(setting, host, port)
    listening.listen(_BACKLOG)
    listening.setblocking(False)
    return listening


def _log(level: str, event: str, **fields: object) -> None:
    """A line like those of `ops.logs`. It may be lost, where standard error is a file on a full disk: the gateway goes on."""
    line = {**fields, "event": event, "process": "gateway", "level": level, "timestamp": datetime.now(UTC).isoformat()}
    with suppress(OSError):
        print(json.dumps(line, default=str), file=sys.stderr, flush=True)


def main(flags: str) -> int:
    """Serve until told to stop; the exit status. Raises `UserError` for settings or ports that cannot be."""
    plan = read_plan(flags)
    sockets = [_listen(*where) for where in plan.listen]
    _, host, port = plan.listen[0]
    print(f"The gateway listens at http://{host}:{port}; /readyz says whether it can answer.", file=sys.stderr)
    return Workers(plan, sockets, flags).run()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except UserError as error:
        print(f"plaudit: {error}", file=sys.stderr)
        sys.exit(_USER_ERROR)
