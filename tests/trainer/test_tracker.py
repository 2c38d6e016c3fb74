"""What trackers are told, by a real TensorBoard and by a stand-in that fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event
from vote_log import fill, settings_for

from ops.errors import CommandError
from ops.open_log import open_log_of
from ops.registry import GateResult
from ops.settings import SettingsError, load_settings
from trainer.process import trainer_of
from trainer.record import CycleRecord
from trainer.tracker import Tracker, figures, tracking

RECORD = CycleRecord(
    cycle=3,
    outcome="rejected",
    parent="base",
    votes=40,
    new_votes=8,
    raters=5,
    reward_model={"name": "reward", "accuracy": 0.8, "tfidf": None, "measures": {"auc": 0.9}},
    gates=(GateResult(name="length", passed=True, value=0.9), GateResult(name="kl_base", passed=False, value=30.0)),
    steps=({"objective/kl": 1.0},),
    seconds={"reward": 2.0},
    finished=1e9,
)


class Sink:
    """Notes what it is told; the first call of what is in ``breaks`` fails."""

    def __init__(self, *breaks: str) -> None:
        self.told: list[tuple] = []
        self._breaks = breaks

    def store_init_configuration(self, values: dict) -> None:
        self._note("configuration", values)

    def log(self, values: dict, step: int | None = None) -> None:
        self._note("log", step, values)

    def finish(self) -> None:
        self._note("finish")

    def _note(self, *what: object) -> None:
        self.told.append(what)
        if what[0] in self._breaks:
            raise ConnectionError("no server")


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) by tag, as TensorBoard reads them: records of a length, its checksum, the event, its checksum."""
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events.out.*")):
        data, place = path.read_bytes(), 0
        while place < len(data):
            length = int.from_bytes(data[place : place + 8], "little")
            event = Event.FromString(data[place + 12 : place + 12 + length])
            place += 16 + length
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_tensorboard_has_every_step_and_every_cycle(tmp_path, tiny_folder):
    settings = settings_for(tmp_path, tiny_folder, tracker="tensorboard")
    with open_log_of(settings) as log:
        fill(log, 60)
    with trainer_of(settings) as trainer:
        record = trainer.cycle(asked=True)
    curves = scalars(tmp_path / "tensorboard" / "default")
    assert [step for step, _ in curves["objective/score"]] == [1, 2]
    assert [value for _, value in curves["objective/score"]] == pytest.approx([s["objective/score"] for s in record.steps])
    assert curves["cycle/reward_model/accuracy"] == [(2, pytest.approx(record.reward_model["accuracy"]))]
    assert curves["gate/kl_base/passed"] == [(2, 1.0)]
    assert curves["published"] == [(2, 0.0)]


def test_the_figures_of_a_cycle_are_its_numbers_by_name():
    assert figures(RECORD) == {
        "cycle/cycle": 3,
        "cycle/votes": 40,
        "cycle/new_votes": 8,
        "cycle/raters": 5,
        "cycle/reward_model/accuracy": 0.8,
        "cycle/reward_model/measures/auc": 0.9,
        "cycle/seconds/reward": 2.0,
        "published": 0,
        "gate/length/value": 0.9,
        "gate/length/passed": 1,
        "gate/kl_base/value": 30.0,
        "gate/kl_base/passed": 0,
    }


def test_settings_are_told_flat_and_plain():
    sink = Sink()
    Tracker(sink).configuration({"ppo": {"steps": 2, "kl_target": None}, "gates": [1, 2]})
    assert sink.told == [("configuration", {"ppo.steps": 2, "ppo.kl_target": "None", "gates": "[1, 2]"})]


def test_a_tracker_that_fails_is_left_alone_and_stops_nothing():
    sink = Sink("log")
    tracker = Tracker(sink)
    tracker.step(1, {"a": 1.0})
    tracker.step(2, {"a": 2.0})
    tracker.cycle(2, RECORD)
    tracker.close()
    assert sink.told == [("log", 1, {"a": 1.0})]


def test_a_tracker_is_told_when_it_is_over():
    sink = Sink()
    Tracker(sink).close()
    assert sink.told == [("finish",)]


def test_what_a_tracker_prints_is_not_part_of_the_commands_answer(capsys):
    class Talkative(Sink):
        def log(self, values, step=None):
            print("View it at http://127.0.0.1:7860")

    Tracker(Talkative()).step(1, {"a": 1.0})
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "7860" in printed.err


def test_without_the_setting_nobody_is_told(tmp_path):
    with tracking(load_settings(data_dir=tmp_path)) as tracker:
        tracker.step(1, {"a": 1.0})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["mlflow", "trackio", "wandb"])
def test_a_tracker_that_is_not_installed_is_named_with_its_package(tmp_path, name):
    settings = load_settings(data_dir=tmp_path, train={"tracker": name})
    with pytest.raises(CommandError, match=f"='{name}': the package '{name}' is not installed. Run 'pip install {name}'"):
        tracking(settings).__enter__()


def test_another_tracker_is_no_setting():
    with pytest.raises(SettingsError, match=r"train\.tracker='neptune'"):
        load_settings(train={"tracker": "neptune"})
