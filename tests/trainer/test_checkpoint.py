from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from commit_once import commit, loop, point

from ops.registry import Registry
from trainer.checkpoint import Checkpoint, CheckpointError, LeaseLost, State, TrainerBusy, journal
from trainer.record import CycleRecord

SCRIPT = Path(__file__).with_name("every_write.py")
SHM = Path("/dev/shm")


def opened(folder: Path):
    checkpoint = Checkpoint(folder / "trainer", Registry(folder / "adapters"))
    with checkpoint.lease():
        return checkpoint.open(now=9.0)


def test_a_fresh_folder_has_learnt_nothing(tmp_path):
    loaded = opened(tmp_path)
    assert (loaded.state.cycle, loaded.state.offsets, loaded.adapter, loaded.reward) == (0, {}, None, None)


def test_what_was_committed_is_what_is_loaded(tmp_path):
    adapter = commit(tmp_path, 1)
    loaded = opened(tmp_path)
    assert loaded.state.cycle == 1
    assert loaded.state.offsets == {"feedback": {0: 10, 11: 0}}
    assert loaded.adapter == adapter == Registry(tmp_path / "adapters").list("default")[0].id
    assert (loaded.reward / "weights").read_text() == "reward of cycle 1"
    assert [(line["cycle"], line["adapter"]) for line in journal(tmp_path / "trainer")] == [(1, adapter)]


def test_a_cycle_that_is_killed_refused_or_stopped_at_any_write_ends_in_the_same_bytes_and_one_adapter():
    with tempfile.TemporaryDirectory(dir=SHM if SHM.is_dir() else None) as folder:  # nothing here needs a disk that syncs
        done = subprocess.run(
            [sys.executable, str(SCRIPT), folder],
            timeout=250,
            env=os.environ | {"PYTHONPATH": os.getcwd()},
            stdout=subprocess.PIPE,
            check=True,
        )
    report = json.loads(done.stdout.splitlines()[-1])  # the others are the trainer's log
    assert report["problems"] == []
    written = " ".join(report["operations"])
    for name in ("turns", "models", "loop", "step", "reward", "state.json", "publication.json", "commits", "manifest.json"):
        assert name in written
    for name in ("learned_from", "current.json", "cycles.jsonl", "progress"):
        assert name in written
    assert report["replaced"] >= 50  # the last writes of all only tidy up


def test_a_commit_without_an_adapter_publishes_none(tmp_path):
    assert commit(tmp_path, 1, publishes=False) is None
    assert opened(tmp_path).state.cycle == 1
    assert Registry(tmp_path / "adapters").list("default") == []


def test_the_last_two_commits_are_kept(tmp_path):
    for cycle in (1, 2, 3):
        commit(tmp_path, cycle)
    assert sorted(path.name for path in (tmp_path / "trainer" / "commits").iterdir()) == ["000002", "000003"]
    assert [line["cycle"] for line in journal(tmp_path / "trainer")] == [1, 2, 3]


@pytest.mark.parametrize("damage", ["change", "remove", "add"])
def test_a_commit_that_is_not_as_it_was_written_is_refused_by_the_name_of_the_file(tmp_path, damage):
    commit(tmp_path, 1)
    weights = tmp_path / "trainer" / "commits" / "000001" / "reward" / "weights"
    if damage == "change":
        weights.write_text("reward of cycle 7")
    elif damage == "remove":
        weights.unlink()
    else:
        weights.with_name("more").touch()
    with pytest.raises(CheckpointError, match=r"reward/(weights|more): is not the file"):
        opened(tmp_path)


def test_a_pointer_to_another_commit_is_refused(tmp_path):
    commit(tmp_path, 1)
    pointer = tmp_path / "trainer" / "current.json"
    pointer.write_text(json.dumps(json.loads(pointer.read_text()) | {"digest": "0" * 64}))
    with pytest.raises(CheckpointError, match=r"files\.json"):
        opened(tmp_path)


def test_two_trainers_never_work_on_one_project(tmp_path):
    one, two = (Checkpoint(tmp_path / "trainer", Registry(tmp_path / "adapters")) for _ in range(2))
    with one.lease(), pytest.raises(TrainerBusy, match="another trainer"), two.lease():
        pass
    with two.lease():
        pass


def test_what_is_written_without_the_lease_is_refused(tmp_path):
    checkpoint = Checkpoint(tmp_path / "trainer", Registry(tmp_path / "adapters"))
    with pytest.raises(RuntimeError, match="with the lease only"):
        checkpoint.progress.drop()


def test_a_trainer_that_was_taken_over_from_learns_it_before_it_has_anything_to_keep(tmp_path):
    one, two = (Checkpoint(tmp_path / "trainer", Registry(tmp_path / "adapters")) for _ in range(2))
    with contextlib.ExitStack() as stack:
        stack.enter_context(one.lease())
        one.check()
        [holder] = tmp_path.glob("adapters/.turns/*/*/holder.json")
        os.utime(holder, (1.0, 1.0))
        with two.lease():
            two.check()
            with pytest.raises(LeaseLost, match="another trainer has taken over"):
                one.check()


def test_damaged_progress_is_begun_again_and_not_gone_on_from(tmp_path):
    checkpoint = Checkpoint(tmp_path / "trainer", Registry(tmp_path / "adapters"))
    with checkpoint.lease():
        checkpoint.progress.begin(point(1), lambda draft: (draft / "weights").write_text("learnt"))
        checkpoint.progress.keep(5, loop(5))
        kept = checkpoint.progress.found()
        assert (kept.point, len(kept.loop["steps"])) == (point(1), 5)
        (tmp_path / "trainer" / "progress" / "step-000005" / "loop.safetensors").write_bytes(b"half")
        assert checkpoint.progress.found() is None


def full(draft: Path) -> None:
    (draft / "weights").write_text("half of it")
    raise OSError(errno.ENOSPC, "No space left on device", str(draft / "weights"))


def test_progress_that_the_disk_does_not_take_stops_no_cycle(tmp_path):
    checkpoint = Checkpoint(tmp_path / "trainer", Registry(tmp_path / "adapters"))
    with checkpoint.lease():
        checkpoint.progress.begin(point(1), full)
        assert checkpoint.progress.found() is None
        assert list(tmp_path.rglob("weights")) == []
        checkpoint.progress.begin(point(1), lambda draft: None)
        checkpoint.progress.keep(1, loop(1))
        assert len(checkpoint.progress.found().loop["steps"]) == 1


def test_a_full_disk_is_one_line_that_names_the_file_and_what_to_do(tmp_path):
    record = CycleRecord(cycle=1, outcome="no_signal", parent="base", votes=1, new_votes=1, raters=1, finished=1.0)
    checkpoint = Checkpoint(tmp_path / "trainer", Registry(tmp_path / "adapters"))
    message = r"weights: cannot be written \(.*No space left on device.*\); make room, then start again"
    with checkpoint.lease():
        with pytest.raises(CheckpointError, match=message):
            checkpoint.commit(State(cycle=1), record, None, full, 1.0)
        assert checkpoint.open(1.0).state.cycle == 0
        assert checkpoint.commit(State(cycle=1), record, None, lambda draft: None, 1.0) is None
        assert checkpoint.open(1.0).state.cycle == 1
