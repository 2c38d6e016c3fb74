from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NoReturn

import numpy as np
import pytest
from feedback_samples import completion, rating
from lora_files import MODULE, publish, weights, write_lora
from streams import Stream, duels, live, refused, votes_replaced

from feedback.events import Event, RolloutChanged
from feedback.join import Joiner
from feedback.log import LogUnavailable, Position, Record, TopicReader
from feedback.sqlite_log import SqliteLog
from ops import metrics
from ops.controller import Controller, Known
from ops.controller import status as status_of_settings
from ops.deployment import Deployment
from ops.registry import AdapterManifest, Registry
from ops.settings import Settings

STEPS = [
    {"state": "CANARY", "coverage": 0.5, "min_users": 5, "min_seconds": 10},
    {"state": "RAMP", "coverage": 1.0, "min_users": 20, "min_seconds": 10},
]
USERS = [f"user-{i:03d}" for i in range(240)]
NAN = weights() | {f"{MODULE}.lora_A.weight": np.full((8, 4), np.nan, np.float32)}


@dataclass
class World:
    """A controller with a real log and registry, and a clock that each tick moves on by ten seconds."""

    root: Path
    now: float = 1_000_000.0
    logs: list[SqliteLog] = field(default_factory=list)
    retention: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rollout = {"steps": STEPS, "non_inferior": ["duel"], "poll_s": 0.01}
        more = {"rollout": rollout, "retention": self.retention}
        self.settings = Settings(data_dir=self.root, metrics_port_controller=0, model="starter", **more)
        self.registry = Registry(self.settings.adapters_dir)
        self.log = self.open_log()
        self.controller = self.new_controller()

    def open_log(self) -> SqliteLog:
        self.logs.append(SqliteLog(self.settings.log_path))
        return self.logs[-1]

    def new_controller(self) -> Controller:
        return Controller(self.log, self.settings, clock=lambda: self.now)

    def publish(self, seed: int = 1, **options: object) -> AdapterManifest:
        tensors = options.pop("tensors", None)
        return publish(self.registry, write_lora(self.root / f"staging-{seed}", seed=seed, tensors=tensors), **options)

    def tick(self) -> list[str]:
        self.now += 10
        return [event.data.state for event in self.controller.tick()]

    def control(self) -> list[Event]:
        return [r.event for r in TopicReader(self.log, "control").drain() if isinstance(r.event.data, RolloutChanged)]

    def states(self) -> list[str]:
        return [event.data.state for event in self.control()]

    def to_canary(self, seed: int = 1) -> AdapterManifest:
        manifest = self.publish(seed)
        assert self.tick() == ["GATED"]
        self.log.append([live(manifest.id)])
        assert self.tick() == ["CANARY"]
        return manifest

    def duel(self, users: Sequence[str], *, prefers: float, seed: int = 0, every: int = 60) -> list[str]:
        """Duels of these users under what is deployed, with a tick after ``every`` events; the states that came of it."""
        states: list[str] = []
        stream = Stream(seed, now=self.now)
        for user in users:
            self.log.append(stream.duel(self.controller.deployment, user, prefers=prefers))
            if stream.count % every == 0:
                states += self.tick()
        return states + self.tick()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    for log in made.logs:
        log.close()


def test_with_nothing_published_nothing_happens(world):
    assert world.tick() == []
    status = world.controller.status()
    assert (status["champion"], status["challenger"], status["state"], status["history"]) == ("base", None, None, [])
    assert status["alpha"] == pytest.approx(0.025)  # of the first rollout, should it come


def test_feedback_without_its_answer_is_noted_once_where_no_trainer_runs_and_joins_on_replay(world):
    orphan = rating("f1", "late", time=world.now, project="default")
    stranger = rating("f2", "other", time=world.now, project="else")
    world.log.append([orphan, stranger, rating("f3", "here", time=world.now, project="default")])
    world.log.append([completion("here", project="default")])
    world.now += 24 * 3600 - 10
    world.tick()
    assert TopicReader(world.log, "dead-letter").drain() == []  # a day, not more
    world.tick()
    world.tick()
    world.new_controller().tick()
    [letter] = [r.event.data for r in TopicReader(world.log, "dead-letter").drain()]
    assert (letter.reason, letter.topic, letter.offset) == ("no_target", "feedback", 0)
    world.log.append([completion("late", project="default")])
    joiner = Joiner("default")
    for topic in ("feedback", "completions"):
        joiner.extend(TopicReader(world.log, topic).drain())
    assert {vote.feedback_id for vote in joiner.votes()} == {"f1", "f3"}


def test_a_letter_that_retention_deleted_is_not_written_anew(tmp_path):
    world = World(tmp_path, retention={"dead_letter_days": 2})
    world.log.append([rating("f1", "never", time=world.now, project="default")])
    world.now += 3 * 24 * 3600
    world.log.append([rating("f2", "late", time=world.now - 25 * 3600, project="default")])
    world.tick()
    assert [r.event.data.offset for r in TopicReader(world.log, "dead-letter").drain()] == [1]
    world.log.close()


def test_a_better_challenger_passes_every_state_and_becomes_the_champion(world):
    manifest = world.publish()
    assert world.tick() == ["GATED"]
    assert world.tick() == []  # no gateway has it yet
    world.log.append([live(manifest.id)])
    assert world.tick() == ["CANARY"]
    assert world.duel(USERS, prefers=0.8) == ["RAMP", "PROMOTED"]
    assert world.states() == ["GATED", "CANARY", "RAMP", "PROMOTED"]
    deployment = world.controller.deployment
    assert (deployment.champion, deployment.challenger, deployment.coverage) == (manifest.id, None, 0.0)
    assert world.controller.status()["alpha"] == pytest.approx(0.05 * 2 / 6)  # of a second rollout, after one promotion
    assert [event.id for event in world.control()] == [f"ctl-ro-{manifest.id}-{n}" for n in range(4)]


def test_a_worse_challenger_is_rolled_back_and_its_older_sibling_gets_its_turn(world):
    older = world.publish(1)
    manifest = world.to_canary(2)
    assert world.duel(USERS, prefers=0.15) == ["RAMP", "ROLLED_BACK", "GATED"]
    assert world.controller.deployment.champion == "base"
    assert world.controller.deployment.challenger == older.id
    assert world.controller.deployment.rollouts == 2
    history = world.controller.status()["history"]
    assert [(row["challenger"], row["state"]) for row in history] == [(manifest.id, "ROLLED_BACK"), (older.id, "GATED")]


def test_only_children_of_the_champion_are_tried_and_the_newest_first(world):
    first, second = world.publish(1), world.publish(2)
    orphan = world.publish(3, parent="default-v9-00000000")
    world.tick()
    assert world.controller.deployment.challenger == second.id
    world.log.append([refused(second.id, "gone")])
    assert world.tick() == ["ROLLED_BACK"]
    assert world.tick() == ["GATED"]
    assert world.controller.deployment.challenger == first.id
    assert orphan.id not in {event.data.challenger for event in world.control()}


def test_an_adapter_whose_gates_failed_is_refused_once_with_the_gates_figure(world):
    manifest = world.publish(passed=False)
    assert world.tick() == ["REFUSED"]
    assert world.tick() == []
    change = world.control()[0].data
    assert (change.challenger, change.coverage, change.reason) == (manifest.id, 0.0, "gates failed: win_rate 0.4 against 0.5")
    assert world.controller.deployment.challenger is None


def test_a_rejected_adapter_is_kept_with_its_reasons_and_never_becomes_challenger(world):
    rejected = world.publish(1, passed=False)
    world.tick()
    world.controller = world.new_controller()  # one that knows the log only
    assert world.tick() == []
    manifest = world.to_canary(2)
    world.log.append([refused(manifest.id, "gone")])
    assert world.tick() == ["ROLLED_BACK"]
    assert world.tick() == []  # nobody else is there: the rejected one is not tried for want of better
    shown = [event.data.challenger for event in world.control() if event.data.state != "REFUSED"]
    assert rejected.id not in shown
    [kept] = [each for each in world.registry.list("default") if each.id == rejected.id]
    assert [(gate.name, gate.passed, gate.value) for gate in kept.gates] == [("win_rate", False, 0.4)]


def test_an_adapter_full_of_nan_is_refused_once_and_a_good_one_behind_it_starts(world):
    good = world.publish(1)
    bad = world.publish(2, tensors=NAN)
    assert world.tick() == ["REFUSED", "GATED"]
    assert world.controller.deployment.challenger == good.id
    assert world.control()[0].data.challenger == bad.id
    assert "adapter_model.safetensors" in world.control()[0].data.reason
    world.controller = world.new_controller()
    world.tick()
    assert world.states() == ["REFUSED", "GATED"]


def test_a_folder_without_a_readable_manifest_is_refused_once(world):
    folder = world.registry.path(world.publish().id)
    (folder / "manifest.json").write_text("{")
    assert world.tick() == ["REFUSED"]
    assert world.tick() == []
    assert "manifest.json" in world.control()[0].data.reason


def test_a_challenger_that_the_gateway_refuses_is_rolled_back(world):
    manifest = world.publish()
    world.tick()
    world.log.append([refused(manifest.id, "answers as the base does")])
    assert world.tick() == ["ROLLED_BACK"]
    assert "answers as the base does" in world.control()[-1].data.reason


def test_a_challenger_that_fails_more_often_is_rolled_back_by_the_error_guardrail(world):
    world.to_canary()
    stream = Stream(1, now=world.now)
    for user in USERS:
        failing = world.controller.deployment
        world.log.append(stream.duel(failing, user, prefers=0.5, outcome="error"))
    assert world.tick() == ["ROLLED_BACK"]
    assert "guardrail error" in world.control()[-1].data.reason


def test_thumbs_down_on_the_challengers_answers_roll_it_back(world):
    world.to_canary()
    stream = Stream(1, now=world.now)
    for user in USERS:
        events = stream.chat(world.controller.deployment, user)
        arm = events[0].data.exposure.assigned
        world.log.append(stream.chat(world.controller.deployment, user, thumb=-1 if arm == "challenger" else 1))
    assert world.tick() == ["ROLLED_BACK"]
    assert "guardrail thumbs_down" in world.control()[-1].data.reason


def test_an_arm_that_gets_too_few_users_holds_the_rollout(world):
    world.to_canary()
    stream = Stream(1, now=world.now)
    for user in [f"many-{i}" for i in range(240)]:
        events = stream.chat(world.controller.deployment, user)
        if events[0].data.exposure.assigned == "control":
            world.log.append(events)
    assert world.tick() == ["HELD"]
    assert "sample-ratio" in world.control()[-1].data.reason
    assert world.tick() == []


def test_rollouts_and_votes_of_other_projects_change_nothing(world):
    world.to_canary()
    theirs = world.control()[-1].model_copy(update={"project": "other", "key": "other", "id": "ctl-other"})
    world.log.append([theirs.model_copy(update={"data": theirs.data.model_copy(update={"coverage": 1.0})})])
    other = [
        event.model_copy(update={"project": "other", "id": f"other-{event.id}"})
        for event in duels(world.controller.deployment, USERS, prefers=0.0)
    ]
    world.log.append(other)
    assert world.tick() == []
    assert world.controller.status()["duels"] == {"wins": 0, "ties": 0, "losses": 0}
    assert world.controller.deployment.coverage == 0.5


def test_a_second_promotion_builds_on_the_first(world):
    first = world.to_canary()
    world.duel(USERS, prefers=0.9)
    assert world.controller.deployment.champion == first.id
    second = world.publish(2, parent=first.id)
    assert world.tick() == ["GATED"]
    world.log.append([live(second.id)])
    world.tick()
    world.duel(USERS, prefers=0.9, seed=1)
    deployment = world.controller.deployment
    assert (deployment.champion, deployment.promotions, deployment.rollouts) == (second.id, 2, 2)


def test_a_controller_started_in_mid_rollout_has_the_same_evidence(world):
    world.to_canary()
    world.duel(USERS[:100], prefers=0.6)
    before = world.controller.status()
    assert before["duels"]["wins"] > 10
    again = world.new_controller()
    assert again.status() == before
    assert again.deployment == world.controller.deployment


def play(world: World, events: Sequence[Event], *, every: int, restart: bool = False) -> list[Event]:
    """Append events in order with a tick after ``every`` of them, by a new controller each time with ``restart``."""
    for begin in range(0, len(events), every):
        world.log.append(events[begin : begin + every])
        if restart:
            world.controller = world.new_controller()
        world.tick()
    return world.control()


def recorded(root: Path, prefers: float, seed: int) -> tuple[World, list[Event]]:
    """A world in its first step, and what its users do there."""
    world = World(root)
    world.to_canary()
    full = world.controller.deployment
    return world, list(duels(full, USERS[:180], prefers=prefers, seed=seed))


def test_the_same_log_with_ticks_at_the_same_points_gives_the_same_decisions_even_if_restarted_at_each(tmp_path):
    decided = []
    for name, restart in (("one", False), ("two", False), ("three", True)):
        world, events = recorded(tmp_path / name, prefers=0.85, seed=3)
        decided.append(play(world, events, every=50, restart=restart))
        world.log.close()
    assert decided[0] == decided[1] == decided[2]
    assert [e.data.state for e in decided[0]] == ["GATED", "CANARY", "RAMP"]


class Dying:
    """A log whose appends fail: before anything is written, or after it is durable but before anybody hears of it."""

    def __init__(self, log: SqliteLog, after: bool) -> None:
        self._log, self._after = log, after

    def append(self, events: Sequence[Event], timeout: float = 10.0) -> list[Position]:
        if self._after:
            self._log.append(events)
        raise LogUnavailable("killed")

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)


@pytest.mark.parametrize("after", [False, True], ids=["before it is written", "after it is written"])
def test_a_crash_around_the_append_has_one_effect(world, after):
    world.publish()
    dying = Controller(Dying(world.log, after), world.settings, clock=lambda: world.now)
    with pytest.raises(LogUnavailable):
        dying.tick()
    world.controller = world.new_controller()
    world.tick()
    assert world.states() == ["GATED"]
    assert world.controller.deployment.rollouts == 1


class FailsOnce:
    """A log of which one call fails: the ``calls``-th of these from when that was set, 0 for none."""

    def __init__(self, log: SqliteLog, method: str) -> None:
        self._log, self._method, self.calls = log, method, 0

    def __getattr__(self, name: str) -> object:
        if name == self._method:
            self.calls -= 1
            if self.calls == 0:
                return self._fail
        return getattr(self._log, name)

    def _fail(self, *_: object, **__: object) -> NoReturn:
        raise LogUnavailable("disk")


def test_a_log_that_fails_once_holds_up_one_decision(world):
    world.publish()
    log = FailsOnce(world.log, "append")
    world.controller = Controller(log, world.settings, clock=lambda: world.now)
    log.calls = 1
    with pytest.raises(LogUnavailable):
        world.controller.tick()
    assert world.tick() == ["GATED"]


def test_votes_read_before_the_log_failed_count(world):
    log = FailsOnce(world.log, "read")
    world.controller = Controller(log, world.settings, clock=lambda: world.now)
    world.to_canary()
    world.controller.refresh()
    world.log.append(list(duels(world.controller.deployment, USERS[:40], prefers=0.8)))
    log.calls = 12 + 24 + 5  # control, completions twice, then in the midst of the feedback
    for _ in range(2):
        with contextlib.suppress(LogUnavailable):
            world.controller.refresh()
    assert log.calls < 0
    world.controller.refresh()
    fresh = world.new_controller()
    fresh.refresh()
    assert fresh.evidence().duels.n > 0
    assert world.controller.evidence() == fresh.evidence()


def test_two_controllers_decide_each_change_once(world):
    manifest = world.to_canary()
    slow = world.new_controller()
    early = list(duels(world.controller.deployment, USERS[:60], prefers=1.0))
    world.log.append(early[:-3])
    slow.refresh()
    world.log.append(early[-3:])
    assert world.tick() == ["RAMP"]
    read, slow.refresh = slow.refresh, lambda: None  # it has not seen what the other one did, nor the last vote
    assert slow.tick() == []
    slow.refresh = read
    slow.tick()
    assert world.states() == ["GATED", "CANARY", "RAMP"]
    assert slow.deployment == world.controller.deployment
    assert slow.deployment.challenger == manifest.id


class Late:
    """A log that, like Kafka behind its outbox, gives back the control topic only later."""

    def __init__(self, log: SqliteLog) -> None:
        self._log, self.late = log, True

    def read(self, topic: str, partition: int, offset: int, limit: int = 1000) -> list[Record]:
        return [] if self.late and topic == "control" else self._log.read(topic, partition, offset, limit)

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)


def test_nothing_more_is_decided_before_the_last_decision_is_read_back(world):
    world.publish(1)
    late = Late(world.log)
    world.controller = Controller(late, world.settings, clock=lambda: world.now)
    assert world.tick() == ["GATED"]
    world.publish(2)
    assert world.tick() == []
    late.late = False
    assert world.tick() == []
    assert world.states() == ["GATED"]
    assert world.controller.deployment.since == world.control()[0].time


def outcome_of(root: Path, prefers: float, seed: int, how: str | None) -> list[str]:
    """States of a rollout in which everybody votes, twice over: at each step, replayed with votes that may mean nothing."""
    world, events = recorded(root, prefers=prefers, seed=seed)
    rng = Random(seed)
    play(world, events if how is None else votes_replaced(events, rng, how=how), every=60)
    if world.controller.deployment.state == "RAMP":
        more = list(duels(world.controller.deployment, [f"more-{u}" for u in USERS[:120]], prefers=prefers, seed=seed + 1000))
        play(world, more if how is None else votes_replaced(more, rng, how=how), every=60)
    states = world.states()
    world.log.close()
    shutil.rmtree(root)
    return states


@pytest.mark.parametrize("how", ["random", "shuffled"])
def test_votes_that_mean_nothing_promote_nothing_in_ten_runs(tmp_path, how):
    for seed in range(10):
        states = outcome_of(tmp_path / str(seed), 0.8, seed, how)
        assert states[:3] == ["GATED", "CANARY", "RAMP"]
        assert "PROMOTED" not in states


def test_the_true_votes_of_the_same_people_promote(tmp_path):
    for seed in range(2):
        assert outcome_of(tmp_path / str(seed), 0.8, seed, None)[-1] == "PROMOTED"


def test_a_change_that_the_log_gives_twice_is_taken_once(world):
    manifest = world.to_canary()
    known = Known(Deployment.initial("default"))
    for event in (*world.control(), *world.control()):
        known.take(event)
    assert known.history[f"ro-{manifest.id}"].changes == 2
    assert known.deployment == world.controller.deployment


def test_status_is_json_with_rates_intervals_evidence_and_history(world):
    manifest = world.to_canary()
    world.duel(USERS[:60], prefers=1.0)
    status = json.loads(json.dumps(world.controller.status(), allow_nan=False))
    rate = status["win_rate"]
    assert rate["n"] == status["duels"]["wins"] > 20
    assert 0.5 < rate["low"] < rate["value"] == rate["high"] == 1.0
    assert status["alpha"] == pytest.approx(0.025)
    assert status["thresholds"]["promotion"] == pytest.approx(np.log(40))
    assert sum(status["users"].values()) == rate["n"]
    assert status["challenger"] == manifest.id
    assert list(status["history"][0].values())[:4] == [f"ro-{manifest.id}", manifest.id, status["state"], status["reason"]]
    assert [wait for wait in status["waiting_for"] if "more users in" in wait]


def test_a_tick_shows_state_and_evidence_as_metrics(world):
    world.to_canary()
    text = metrics.render(metrics.CONTROLLER).decode()
    assert 'plaudit_rollout_state{project="default",state="CANARY"} 1.0' in text
    assert 'plaudit_rollout_state{project="default",state="GATED"} 0.0' in text
    assert 'plaudit_rollout_log_evidence{project="default",test="promotion"}' in text


def command(world: World, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "ops.cli", *arguments, "--data-dir", str(world.root)]


def test_one_run_of_the_command_prints_what_it_decided_and_status_shows_it(world):
    manifest = world.publish()
    done = subprocess.run(command(world, "control", "--once", "--json"), capture_output=True, text=True, timeout=60, check=True)
    assert [event["data"]["challenger"] for event in json.loads(done.stdout)] == [manifest.id]
    assert status_of_settings(world.settings)["state"] == "GATED"


@pytest.mark.timeout(60)
def test_the_process_survives_a_registry_that_cannot_be_read_and_ends_at_sigterm(world):
    world.registry.root.write_text("in the way")
    environment = os.environ | {"PLAUDIT_ROLLOUT__POLL_S": "0.05", "PLAUDIT_METRICS_PORT_CONTROLLER": "0"}
    process = subprocess.Popen(command(world, "control"), env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert "tick_failed" in process.stderr.readline()
        world.registry.root.unlink()
        world.publish()
        assert any("rollout_changed" in line for line in process.stderr)
        assert world.states() == ["GATED"]
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()
