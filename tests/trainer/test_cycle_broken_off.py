"""Cycles that are broken off: out of memory, killed, changed meanwhile, asked to leave."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from vote_log import events, logged, settings_for

from trainer.process import run_cycle, trainer_of

SCRIPT = Path(__file__).with_name("killed_cycles.py")


class Exhausted(RuntimeError):
    def __str__(self) -> str:
        raise MemoryError


def test_a_trainer_that_has_no_memory_even_to_look_at_what_failed_says_so(tmp_path, tiny_folder):
    settings = settings_for(tmp_path, tiny_folder, keep_every=1)
    logged(settings, events(60))

    def fail(step: str) -> None:
        if step == "progress: draft of step":
            raise Exhausted

    with trainer_of(settings, fault=fail) as trainer:
        record = trainer.cycle()
        assert (record.outcome, trainer.cycle()) == ("failed", None)
    assert record.reason == "out of memory (train.memory_mb=None): nothing was left"


def test_a_trainer_killed_at_work_goes_on_to_the_same_bytes_and_counts_every_vote_once(tmp_path, tiny_folder):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), str(tiny_folder)],
        timeout=250,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])},
        stdout=subprocess.PIPE,
        check=True,
    )
    lines = (line for line in done.stdout.splitlines() if line.startswith(b"{"))
    undisturbed, *killed, short = (json.loads(line) for line in lines)
    assert (undisturbed["killed"], undisturbed["resumed"], len(undisturbed["adapters"])) == (False, False, 1)
    resumed = {}
    for one in killed:
        assert one["killed"]
        assert one["kept"] == undisturbed["kept"]  # among them state, weights of all models, heads
        assert one["adapters"] == undisturbed["adapters"]  # the id tells the manifest's bytes
        assert [timeless(record) for record in one["records"]] == [timeless(record) for record in undisturbed["records"]]
        assert (one["records"][0]["new_votes"], one["left"]) == (60, 10)
        resumed[one["step"], one["times"]] = (one["resumed"], one["records"][0]["resumed_after"])
    assert resumed == {
        ("progress: draft of step", 1): (True, 0),  # what was learnt from votes is there
        ("progress: draft of step", 2): (True, 1),
        ("durable", 1): (True, 2),
        ("prepared", 1): (False, 0),
    }
    assert undisturbed["examples"]["count"] == {"reward": 47, "judge": 13}
    # and one that lacks memory gives up, says so, leaves nothing, and waits for more votes
    assert (short["ended_with"], short["outcome"], short["again"], short["left"]) == (0, "failed", False, [])
    assert re.match(r"out of memory \(train.memory_mb=\w+\): .", short["reason"])


def timeless(record: dict) -> dict:
    steps = [{key: value for key, value in step.items() if not key.startswith("timing/")} for step in record["steps"]]
    return record | {"steps": steps, "seconds": None, "finished": None, "resumed_after": None}


class Killed(BaseException):
    pass


def killed_at_work(settings) -> None:
    """A cycle's last step is kept, and nothing of it committed."""

    def die(step: str) -> None:
        if step == "durable":
            raise Killed

    with pytest.raises(Killed), trainer_of(settings, fault=die) as trainer:
        trainer.cycle(asked=True)


@pytest.mark.parametrize("change", ["seed", "votes"])
def test_a_cycle_that_would_not_be_the_same_is_begun_anew(tmp_path, tiny_folder, change):
    settings = settings_for(tmp_path, tiny_folder, keep_every=1)
    logged(settings, events(60))
    killed_at_work(settings)
    assert (settings.trainer_dir / "progress" / "step-000002").is_dir()
    if change == "seed":
        settings = settings.model_copy(update={"seed": 1})
    else:  # the trainer's folder beside the log of another day
        settings.log_path.unlink()
        logged(settings, events(59))
    record = run_cycle(settings)
    assert (record.resumed_after, record.votes) == (0, 60 if change == "seed" else 59)
    assert not (settings.trainer_dir / "progress").exists()


def test_what_has_begun_goes_on_outside_of_the_hours_too(tmp_path, tiny_folder):
    settings = settings_for(tmp_path, tiny_folder, keep_every=1)
    logged(settings, events(60))
    killed_at_work(settings)
    logged(settings, events(20, seed=1))  # which the cycle knows nothing of
    hour = time.localtime().tm_hour
    closed = settings.train.model_copy(update={"hours": f"{(hour + 2) % 24}-{(hour + 3) % 24}"})
    with trainer_of(settings.model_copy(update={"train": closed})) as trainer:
        record = trainer.cycle()
        assert (record.resumed_after, record.votes) == (2, 60)
        assert trainer.cycle() is None


def test_the_trainer_makes_way_for_others_and_leaves_when_it_is_asked_to(tmp_path, tiny_folder):
    settings = settings_for(tmp_path, tiny_folder)
    environment = os.environ | {"PLAUDIT_METRICS_PORT_TRAINER": "0", "PLAUDIT_TRAIN__NICE": "3"}
    command = [sys.executable, "-m", "ops.cli", "train", "--data-dir", str(tmp_path), "--model", str(tiny_folder)]
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not (settings.trainer_dir / "turns").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 3)
        session = Path(f"/proc/{process.pid}/autogroup")
        if session.exists():  # which the kernel shares its CPUs among
            assert session.read_text().split()[-1] == "3"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.wait()
