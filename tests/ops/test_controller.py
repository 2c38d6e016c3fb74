"""What becomes of adapters, by what people say of them: the controller over a real log and a real registry."""

from __future__ import annotations

import pytest
from controller_world import NAN, USERS, World
from feedback_samples import completion, rating
from streams import Stream, duels, live, refused

from feedback.join import Joiner
from feedback.log import TopicReader


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
