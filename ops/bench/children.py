"""The processes a bench starts: each in a session of its own, on the CPUs it is given, ended whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from ops.bench.load import Load, Result, result_of
from ops.errors import CommandError
from ops.process import die_with_parent, module

Cpus = frozenset[int] | None
"""Where a process may run; None: anywhere."""

_TERM_S, _KILL_S = 8.0, 5.0
_POLL_S = 0.05


@contextmanager
def child(
    argv: Sequence[str], log: Path, *, cpus: Cpus = None, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A running process, its output in the file ``log``; at the end its whole group is stopped."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if environment is None else dict(environment),
            start_new_session=True,
            preexec_fn=at_birth(cpus),
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the process, SIGKILL to what is left of its group."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_TERM_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(_KILL_S)


def at_birth(cpus: Cpus) -> Callable[[], None]:
    """Runs between fork and exec: the CPUs, and SIGTERM should the bench itself be killed."""

    def set_up() -> None:
        die_with_parent()
        if cpus is not None:
            os.sched_setaffinity(0, cpus)

    return set_up


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path, timeout_s: float) -> None:
    """Until ``url`` says 200. Raises `CommandError` with the end of the log when the process ends or time is up."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(_POLL_S)
    why = f"no 200 within {timeout_s:.0f} s" if process.poll() is None else f"the process ended with {process.returncode}"
    end = "\n".join(log.read_text(errors="replace").strip().splitlines()[-5:])
    raise CommandError(f"{url}: {why}; its log ends with:\n{end}")


def apply(load: Load, cpus: Cpus = None) -> Result:
    """The load from a process of its own. Raises `CommandError` if that fails itself."""
    timeout_s = load.seconds + load.deadline_s + 60
    done = subprocess.run(
        module("ops.bench.load"),
        input=json.dumps(asdict(load)).encode(),
        capture_output=True,
        timeout=timeout_s,
        preexec_fn=at_birth(cpus),
    )
    if done.returncode:
        raise CommandError(f"the load generator failed: {done.stderr.decode(errors='replace').strip()[-1000:]}")
    return result_of(json.loads(done.stdout))


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
