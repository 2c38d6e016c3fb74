"""The keeper over real processes: a small program with a child of its own stands where vLLM does (`pretend_vllm`)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from feedback.events import BASE
from ops.settings import EngineSettings
from serving.engine import VllmEngine
from serving.engine_command import EngineCommand
from serving.engine_process import Keeper, pause_s
from serving.process_group import ProcessGroup, end_leftover, is_running

PRETEND = Path(__file__).with_name("pretend_vllm.py")
SETTINGS = EngineSettings(probe_interval_s=0.05, probe_timeout_s=1, start_timeout_s=20)


def command(socket: Path, manner: str) -> EngineCommand:
    return EngineCommand((sys.executable, "-S", str(PRETEND), str(socket), manner), os.environ)


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


class Kept:
    """A keeper at work in a folder."""

    def __init__(self, folder: Path, manner: str) -> None:
        self.socket, self.pid_file = folder / "e.sock", folder / "engine.pid"
        self.keeper = Keeper(command(self.socket, manner), SETTINGS, self.socket, folder)
        self.stop = asyncio.Event()

    def group(self) -> int:
        text = self.pid_file.read_text() if self.pid_file.exists() else ""
        return int(text or 0)

    async def answering(self) -> int:
        """The engine's process group once it gives tokens."""
        engine = VllmEngine(f"unix:{self.socket}")
        try:
            async with asyncio.timeout(20):
                while not (await engine.answers(BASE, 1) and self.group()):
                    await asyncio.sleep(0.02)
        finally:
            await engine.close()
        return self.group()


@asynccontextmanager
async def kept(folder: Path, manner: str = "answers") -> AsyncIterator[Kept]:
    one = Kept(folder, manner)
    running = asyncio.create_task(one.keeper.keep(one.stop))
    try:
        yield one
    finally:
        one.stop.set()
        await asyncio.wait_for(running, 10)


async def test_told_to_stop_it_leaves_no_process_within_five_seconds_though_one_ignores_sigterm(tmp_path):
    async with kept(tmp_path, "stubborn") as one:
        group = await one.answering()
        assert is_running(group)
        scratch = Path((tmp_path / "scratch").read_text())
        assert (scratch / "litter").exists()
        told = time.monotonic()
    assert time.monotonic() - told < 5
    assert not scratch.exists()
    assert not is_running(group)
    assert not one.pid_file.exists()
    assert not one.socket.exists()


async def test_a_killed_engine_is_started_again_and_the_orphans_of_the_first_are_gone(tmp_path):
    async with kept(tmp_path) as one:
        first = await one.answering()
        os.kill(first, signal.SIGKILL)  # the leader alone: its child lives on, as vLLM's does
        await until(lambda: one.group() not in (0, first))
        assert not is_running(first)
        assert await one.answering() != first
        assert one.keeper.starts == 2


async def test_an_engine_that_goes_deaf_is_replaced_by_one_that_answers(tmp_path):
    async with kept(tmp_path, "deaf") as one:
        await until(lambda: one.keeper.starts == 2)
        second = await one.answering()
        assert is_running(second)
    assert one.keeper.starts == 2


async def test_an_engine_that_misses_a_probe_now_and_then_is_busy_and_not_deaf(tmp_path):
    async with kept(tmp_path, "slow") as one:
        await until(lambda: one.keeper.starts == 1)
        await asyncio.sleep(4 * SETTINGS.probe_timeout_s)
        assert one.keeper.starts == 1
        assert is_running(one.group())


async def test_an_engine_that_cannot_start_is_tried_again_after_a_pause_and_the_log_has_its_words(tmp_path):
    async with kept(tmp_path, "dies") as one:
        began = time.monotonic()
        await until(lambda: one.keeper.starts == 2)
        assert time.monotonic() - began > 0.9
    assert (tmp_path / "engine.log").read_text().splitlines()[0] == "no such model"


def test_the_pause_is_none_after_a_life_and_doubles_to_a_minute_after_starts_without_one():
    assert [pause_s(failures) for failures in (0, 1, 2, 3, 7, 40)] == [0, 1, 2, 4, 60, 60]


async def test_what_a_killed_keeper_left_is_ended_before_the_next_start(tmp_path):
    left = subprocess.Popen(command(tmp_path / "e.sock", "answers").argv, start_new_session=True)
    await until((tmp_path / "e.sock").exists)
    (tmp_path / "engine.pid").write_text(f"{left.pid}\n")
    async with kept(tmp_path) as one:
        await until(lambda: one.group() not in (0, left.pid))
        await until(lambda: not is_running(left.pid))
        await one.answering()
    assert left.wait(5) == -signal.SIGKILL


def test_a_group_of_somebody_else_under_a_remembered_number_is_left_alone():
    other = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        assert not end_leftover(other.pid, "/run/engine.sock")
        assert other.poll() is None
    finally:
        other.kill()
        other.wait(5)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
async def test_the_engine_is_told_when_its_keeper_is_killed(tmp_path):
    script = f"""
import asyncio, sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from serving.process_group import ProcessGroup
async def main():
    argv = ({sys.executable!r}, "-S", "-c", "import time; time.sleep(600)")
    group = await ProcessGroup.start(argv, {{}}, Path({str(tmp_path / "out")!r}))
    print(group.id, flush=True)
    await group.wait()
asyncio.run(main())
"""
    keeper = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert keeper.stdout is not None
    group = int(keeper.stdout.readline())
    assert is_running(group)
    keeper.kill()
    keeper.wait(5)
    keeper.stdout.close()
    await until(lambda: not is_running(group), 5)


async def test_output_is_appended_and_the_exit_status_told(tmp_path):
    output = tmp_path / "out"
    output.write_text("before\n")
    group = await ProcessGroup.start((sys.executable, "-S", "-c", "print('after'); raise SystemExit(7)"), {}, output)
    assert await group.wait() == 7
    assert output.read_text() == "before\nafter\n"
    await group.stop()
