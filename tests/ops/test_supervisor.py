"""The supervisor: starts, restarts, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ops.supervisor import ChildSpec, Supervisor

# A child with a child of its own, which both ignore SIGTERM when told to.
CHILD = """
import signal, subprocess, sys, time
if "--stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "--parent" in sys.argv:
    subprocess.Popen([sys.executable, *[a for a in sys.argv if a != "--parent"]])
print("up", flush=True)
time.sleep(600)
"""


def wait_for(condition, seconds: float = 20.0):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.02)
    return value


@pytest.fixture
def child(tmp_path: Path):
    script = tmp_path / "child.py"
    script.write_text(CHILD)

    def spec(*flags: str) -> ChildSpec:
        return ChildSpec("child", [sys.executable, str(script), *flags], tmp_path / "child.log")

    return spec


def family(supervisor: Supervisor) -> list[psutil.Process]:
    pid = supervisor.pids()["child"]
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def gone(processes: list[psutil.Process]) -> bool:
    return all(not p.is_running() or p.status() == psutil.STATUS_ZOMBIE for p in processes)


def test_a_stop_ends_children_and_their_children_even_stubborn_ones(child):
    supervisor = Supervisor([child("--parent", "--stubborn")], os.environ)
    supervisor.start()
    wait_for(lambda: len(family(supervisor)) == 2)
    processes = family(supervisor)
    supervisor.stop(timeout_s=0.5)
    wait_for(lambda: gone(processes))


def test_a_child_that_dies_is_started_again_and_what_it_left_behind_is_ended(child):
    supervisor = Supervisor([child("--parent")], os.environ)
    supervisor.start()
    try:
        wait_for(lambda: len(family(supervisor)) == 2)
        first = family(supervisor)
        first[0].send_signal(signal.SIGKILL)
        wait_for(lambda: (supervisor.check(), supervisor.restarts()["child"])[1] == 1)
        assert supervisor.pids()["child"] != first[0].pid
        wait_for(lambda: gone(first))
    finally:
        supervisor.stop(timeout_s=2)


def test_a_child_that_the_user_must_mend_is_told_apart_from_one_that_crashed(tmp_path):
    specs = [ChildSpec(f"exits-{n}", [sys.executable, "-c", f"raise SystemExit({n})"], tmp_path / f"{n}.log") for n in (1, 2)]
    supervisor = Supervisor(specs, os.environ)
    supervisor.start()
    try:
        wait_for(lambda: (supervisor.check(), supervisor.restarts()["exits-1"] and supervisor.restarts()["exits-2"])[1])
        assert [spec.name for spec in supervisor.refused()] == ["exits-2"]
    finally:
        supervisor.stop(timeout_s=2)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends orphans on Linux only")
def test_children_end_when_the_supervisor_is_killed(child, tmp_path):
    spec = child()
    code = (
        "import os, sys, time; from pathlib import Path; from ops.supervisor import ChildSpec, Supervisor\n"
        f"s = Supervisor([ChildSpec('child', {list(spec.argv)!r}, Path({str(spec.log_path)!r}))], os.environ); s.start()\n"
        "print(s.pids()['child'], flush=True); time.sleep(600)"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        orphan = psutil.Process(int(supervisor.stdout.readline()))
        supervisor.kill()
        wait_for(lambda: gone([orphan]))
    finally:
        supervisor.kill()
        supervisor.wait(10)
        supervisor.stdout.close()
