"""The lease, between real processes; how old its holder's last sign of life is, is told by its file's time alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops import lease, turns

SCRIPT = Path(__file__).with_name("lease_holder.py")


class Process:
    def __init__(self, folder: Path, beat_s: float = 60.0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder), str(beat_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.getcwd()},
        )

    def says(self) -> str:
        return self.process.stdout.readline().strip()

    def told(self, line: str) -> str:
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.says()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start(tmp_path: Path) -> Iterator:
    processes: list[Process] = []

    def begin(**options: float) -> Process:
        processes.append(Process(tmp_path, **options))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()


def holder_of(folder: Path) -> Path:
    return folder / "turns" / turns.name_of(turns.latest(folder / "turns")) / "holder.json"


def grow_old(folder: Path, seconds: float) -> None:
    holder = holder_of(folder)
    os.utime(holder, (holder.stat().st_mtime - seconds,) * 2)


def elsewhere(folder: Path) -> None:
    """As if the holder ran on another machine: its lock, and its death, cannot be seen from here."""
    holder = holder_of(folder)
    then = holder.stat().st_mtime
    holder.write_text(json.dumps(json.loads(holder.read_text()) | {"host": "far", "kernel": "another"}))
    os.utime(holder, (then, then))


def free(folder: Path) -> bool:
    try:
        with lease.held(folder / "turns"):
            return True
    except lease.LeaseHeld:
        return False


def test_of_two_processes_one_has_the_lease_and_gives_it_back(tmp_path, start):
    first = start()
    assert first.says() == "held"
    with pytest.raises(lease.LeaseHeld, match=str(first.process.pid)), lease.held(tmp_path / "turns"):
        pass
    assert first.told("land one") == "landed"
    first.told("leave")
    first.process.wait()
    assert free(tmp_path)


def test_a_dead_process_of_this_machine_is_replaced_at_once(tmp_path, start):
    first = start()
    assert first.says() == "held"
    first.kill()
    assert free(tmp_path)


def test_a_machine_that_is_gone_is_replaced_when_its_lease_has_run_out(tmp_path, start):
    first = start()
    assert first.says() == "held"
    elsewhere(tmp_path)
    first.kill()  # which nobody here can know
    grow_old(tmp_path, lease.LEASE_S - 10)
    assert not free(tmp_path)
    grow_old(tmp_path, 20)
    assert free(tmp_path)


def test_a_stopped_process_is_replaced_when_its_lease_has_run_out_and_lands_nothing_when_it_goes_on(tmp_path, start):
    first = start()
    assert first.says() == "held"
    first.process.send_signal(signal.SIGSTOP)
    assert not free(tmp_path)
    grow_old(tmp_path, lease.LEASE_S + 1)
    second = start()
    assert second.says() == "held"
    first.process.send_signal(signal.SIGCONT)
    assert first.told("land zombie") == "lost"
    assert second.told("land second") == "landed"
    assert (tmp_path / "second").read_text() == "made"
    assert not (tmp_path / "zombie").exists()


def test_a_holder_at_work_gives_signs_of_life(tmp_path, start):
    first = start(beat_s=0.02)
    assert first.says() == "held"
    grow_old(tmp_path, 3600)
    old = holder_of(tmp_path).stat().st_mtime
    while holder_of(tmp_path).stat().st_mtime == old:
        assert first.process.poll() is None
    assert not free(tmp_path)


def test_a_volume_whose_clock_was_put_back_keeps_nobody_out_for_ever(tmp_path, start):
    first = start()
    assert first.says() == "held"
    elsewhere(tmp_path)
    first.kill()
    grow_old(tmp_path, -3600)
    assert free(tmp_path)


def test_a_turn_is_never_taken_twice_nor_given_back_to_an_earlier_one(tmp_path):
    fourth = turns.take(tmp_path, 4)
    for number in (4, 3):
        with pytest.raises(turns.TurnLost, match="turn 4 has been taken"):
            turns.take(tmp_path, number)
    assert [path.name for path in tmp_path.iterdir()] == [fourth.name]
    turns.take(tmp_path, 5)
    assert turns.latest(tmp_path) == 5
    with pytest.raises(turns.TurnLost, match="another process has taken over"):
        turns.check(fourth)


def test_a_process_that_was_stopped_while_it_took_its_turn_does_not_have_it(tmp_path):
    def meanwhile(draft: Path) -> None:
        turns.take(tmp_path, 2)

    with pytest.raises(turns.TurnLost, match="somebody else was quicker"):
        turns.take(tmp_path, 1, meanwhile)
    assert turns.latest(tmp_path) == 2


def test_what_was_made_in_a_turn_that_is_over_stays_where_it_is(tmp_path):
    first = turns.take(tmp_path / "turns", 1)
    (first / "draft").write_text("late")
    turns.take(tmp_path / "turns", 2)
    with pytest.raises(turns.TurnLost):
        turns.land(first, first / "draft", tmp_path / "made")
    assert not (tmp_path / "made").exists()
