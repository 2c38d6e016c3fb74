from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commit_once import commit

from ops.registry import Registry
from trainer.checkpoint import Checkpoint, CheckpointError, TrainerBusy, journal

SCRIPT = Path(__file__).with_name("commit_once.py")


def opened(folder: Path):
    checkpoint = Checkpoint(folder / "trainer", Registry(folder / "adapters"))
    with checkpoint.lease():
        return checkpoint.open(now=9.0)


def steps_of(folder: Path) -> list[str]:
    steps: list[str] = []
    commit(folder, 1)
    commit(folder, 2, steps.append)
    return steps


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


def test_killed_before_any_step_a_cycle_has_been_or_has_not_been_and_never_half(tmp_path):
    steps = steps_of(tmp_path / "steps")
    assert {"prepared", "published", "pointer written", "committed", "told"} <= set(steps)
    for place, step in enumerate(steps):
        folder = tmp_path / str(place)
        commit(folder, 1)
        killed = subprocess.run(
            [sys.executable, str(SCRIPT), str(folder), str(place)], timeout=60, env=os.environ | {"PYTHONPATH": os.getcwd()}
        )
        assert killed.returncode == -signal.SIGKILL, step
        prepared = place >= steps.index("prepared")
        loaded = opened(folder)
        assert loaded.state.cycle == (2 if prepared else 1), step
        assert (loaded.reward / "weights").read_text() == f"reward of cycle {loaded.state.cycle}", step
        if not prepared:
            commit(folder, 2)
        adapters = Registry(folder / "adapters").list("default")
        assert [m.training["cycle_key"] for m in adapters] == ["key of 1", "key of 2"], step
        assert opened(folder).adapter == adapters[-1].id, step
        assert [line["adapter"] for line in journal(folder / "trainer")] == [m.id for m in adapters], step
        assert not [path.name for path in (folder / "trainer").iterdir() if path.name.startswith(".draft")], step


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
