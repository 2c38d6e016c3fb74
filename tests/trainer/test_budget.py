from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import trainer.budget
from ops.errors import CommandError
from ops.settings import TrainSettings
from trainer.budget import is_shortage, keep_to


def test_a_session_that_is_somebody_else_s_is_left_as_it_is(monkeypatch, tmp_path):
    monkeypatch.setattr(trainer.budget, "_AUTOGROUP", tmp_path / "autogroup")
    monkeypatch.setattr(os, "nice", lambda by: by)
    monkeypatch.setattr(os, "getsid", lambda process: os.getpid() + 1)
    keep_to(TrainSettings(nice=7))
    assert not (tmp_path / "autogroup").exists()
    monkeypatch.setattr(os, "getsid", lambda process: os.getpid())
    keep_to(TrainSettings(nice=7))
    assert (tmp_path / "autogroup").read_text() == "7"


def test_the_trainer_keeps_to_the_threads_that_it_is_given(monkeypatch, tmp_path):
    monkeypatch.setattr(trainer.budget, "_AUTOGROUP", tmp_path / "autogroup")
    had = torch.get_num_threads()
    try:
        for threads in (2, 3):
            keep_to(TrainSettings(nice=0, threads=threads))
            keep_to(TrainSettings(nice=0))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(had)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA is kept to on Linux")
def test_less_memory_than_the_process_has_already_is_refused(monkeypatch):
    with pytest.raises(CommandError, match=r"train\.memory_mb=1: the process takes \d+ MB before it begins.*MEMORY_MB"):
        keep_to(TrainSettings(nice=0, memory_mb=1))


def test_shortages_are_told_from_other_errors():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**55)
    assert is_shortage(refused.value)
    assert is_shortage(MemoryError())
    assert is_shortage(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_shortage(RuntimeError("shapes differ"))


@pytest.mark.parametrize(("asked", "kept"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_a_thread_that_waits_sleeps_and_does_not_spin_unless_somebody_wants_it_to(asked, kept):
    """OpenMP itself tells, as PyTorch loads it."""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"} | {"OMP_DISPLAY_ENV": "TRUE"}
    done = subprocess.run(
        [sys.executable, "-c", "import trainer.batches"],
        env=environment | {"PYTHONPATH": os.getcwd()} | asked,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert f"OMP_WAIT_POLICY = '{kept}'" in done.stderr
