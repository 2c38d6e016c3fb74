from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from lora_files import publish, write_lora
from pydantic import SecretStr
from scripted_vllm import scripted_vllm
from typer.testing import CliRunner
from vote_log import completion, events, logged, retraction, settings_for, thumb

from feedback.events import CompletionCreated, Event, FeedbackSet, Message, RolloutChanged
from feedback.log import TopicReader
from ops.cli import app
from ops.environment import environment_of
from ops.learned_from import people_of
from ops.open_log import open_log_of
from ops.registry import AdapterRefused, Registry
from trainer.checkpoint import Checkpoint, LeaseLost, journal
from trainer.compare import said_by
from trainer.cycle import Trainer
from trainer.explain import NotExplained, feedback_of
from trainer.inbox import Inbox
from trainer.learner import LeftTheCrew, TrainingDiverged
from trainer.process import run_cycle, trainer_of
from trainer.reward import RewardModel
from trainer.tracker import Tracker


@contextmanager
def leased(settings) -> Iterator[Checkpoint]:
    checkpoint = Checkpoint(settings.trainer_dir, Registry(settings.adapters_dir))
    with checkpoint.lease():
        yield checkpoint


def state_of(settings):
    with leased(settings) as checkpoint:
        return checkpoint.open(now=0.0)


def plaudit(settings, *arguments: str) -> dict:
    done = CliRunner().invoke(app, ["adapters", *arguments], env=environment_of(settings))
    assert done.exit_code == 0, done.output or done.exception
    return json.loads(done.stdout)


def shuffled(facts: list[Event], seed: int = 0) -> list[Event]:
    """The same votes with what they say dealt out anew."""
    rng = random.Random(seed)
    places = [n for n, event in enumerate(facts) if isinstance(event.data, FeedbackSet)]
    mixed = list(facts)
    for kind in ("rating", "preference"):
        own = [n for n in places if facts[n].data.judgement.kind == kind]
        for n in own:
            value = rng.choice((-1, 1)) if kind == "rating" else rng.choice("ab")
            judgement = facts[n].data.judgement.model_copy(update={"value": value})
            mixed[n] = facts[n].model_copy(update={"data": facts[n].data.model_copy(update={"judgement": judgement})})
    return mixed


def test_a_cycle_turns_votes_into_an_adapter_with_its_figures_once(tmp_path, tiny_folder):
    settings = settings_for(tmp_path, tiny_folder)
    logged(settings, events(90))
    record = run_cycle(settings)
    [manifest] = Registry(settings.adapters_dir).list("default")
    assert (record.votes, record.new_votes, record.raters, record.parent) == (90, 90, 24, "base")
    assert record.reward_model["curve"][-1]["votes"] == record.reward_model["votes"]
    assert (len(record.reward_model["curve"]), record.judge["curve"]) == (4, ())
    assert record.outcome == "rejected"  # two steps of a random model win nothing
    assert "judge_win_rate" in record.reason
    assert record.adapter == manifest.id
    assert manifest.gates == record.gates
    assert not manifest.passed
    noise = {"judge_win_rate", "win_rate_at_like_length", "master_keys_reward", "master_keys_judge"}
    assert {g.name for g in record.gates if not g.passed} <= noise
    of_models = ("accuracy", "kept", "calibration", "length_bias", "golden")
    assert [g.name for g in record.gates][:10] == [f"{model}_{what}" for model in ("reward", "judge") for what in of_models]
    assert len(record.gates) == 10 + 19  # everything but the starter domain's truth
    assert manifest.training["votes"] == 90
    assert manifest.training["config"]["ppo"]["steps"] == 2
    assert len(record.steps) == 2
    reward, judge = manifest.reward_models
    assert reward["accuracy"] >= 0.9 > reward["majority"]
    assert reward["votes"] + judge["votes"] == 90
    assert Registry(settings.adapters_dir).verify(manifest.id, max_rank=8) == manifest
    assert [line["adapter"] for line in journal(settings.trainer_dir)] == [manifest.id]
    assert people_of(Registry(settings.adapters_dir), manifest.id) == {"user", *(f"rater-{n}" for n in range(24))}
    assert (settings.adapters_dir / "cards" / f"{manifest.id}.md").exists()
    with open_log_of(settings) as log:
        log.append(events(10, seed=7))  # of which it knows nothing
        made_of = feedback_of(log, manifest)
        assert made_of.matches
        assert {row["feedback_id"] for row in made_of.feedback} == {f"fb-0-{n}" for n in range(90)}
        assert Counter(row["kind"] for row in made_of.feedback) == manifest.training["kinds"] == {"rating": 30, "preference": 60}
        assert all(row["new"] for row in made_of.feedback)
        log.append([retraction("r", "chatcmpl-0-0-a", "rater-0", 9.0)])
        assert feedback_of(log, manifest).matches  # what came later changes nothing
        foreign = manifest.model_copy(update={"training": manifest.training | {"examples": {"merkle_root": "0" * 64}}})
        assert not feedback_of(log, foreign).matches
        with pytest.raises(NotExplained, match="does not say what it was made of"):
            feedback_of(log, manifest.model_copy(update={"training": {}}))
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [text for text in kept if b"thanks for asking" in text or b"question 0-" in text]

    told = plaudit(settings, "show", manifest.id, "--feedback", "--json")
    assert told["feedback"]["matches"]
    assert len(told["feedback"]["feedback"]) == 90
    [said] = plaudit(settings, "diff", "base", manifest.id, "--prompt", "question 0-0?", "--json")["answers"]
    assert said == said_by(settings, ["base", manifest.id], ["question 0-0?"])[0]
    assert said["prompt"] == "question 0-0?"
    assert said["base"] != said[manifest.id]
    others = publish(Registry(settings.adapters_dir), write_lora(tmp_path / "other")).id
    with pytest.raises(AdapterRefused, match=f"{others}: base_model: not '.*'; set PLAUDIT_MODEL to the model that"):
        said_by(settings, ["base", others])

    # what it has learnt from is not new again
    with trainer_of(settings) as trainer:
        assert len(trainer.read(asked=True).batch.new) == 10


def test_the_next_cycle_counts_only_what_is_new_and_goes_on_from_what_was_learnt(tmp_path, tiny_folder, monkeypatch):
    settings = settings_for(tmp_path, tiny_folder)
    logged(settings, events(60))
    first = run_cycle(settings)
    sources = []
    start = RewardModel.__init__

    def noting(self, model, name, *, source=None):
        sources.extend([source] if name != "vote_curve" else [])
        start(self, model, name, source=source)

    monkeypatch.setattr(RewardModel, "__init__", noting)
    logged(settings, events(30, seed=1))
    second = run_cycle(settings)
    assert (second.cycle, second.votes, second.new_votes) == (2, 90, 30)
    people = state_of(settings).state.people
    assert people == tuple(sorted({"user", *(f"rater-{n}" for n in range(24))}))
    assert [source.relative_to(settings.trainer_dir).as_posix() for source in sources] == [
        "commits/000001/reward",
        "commits/000001/judge",
    ]
    assert [m.version for m in Registry(settings.adapters_dir).list("default")] == [1, 2]
    assert [line["cycle"] for line in journal(settings.trainer_dir)] == [first.cycle, second.cycle]


def test_training_starts_from_the_champion_and_names_it_as_parent(tmp_path, tiny_folder):
    settings = settings_for(tmp_path, tiny_folder)
    logged(settings, events(60))
    champion = run_cycle(settings).adapter
    promoted = RolloutChanged(rollout_id="ro", state="PROMOTED", champion=champion, challenger=champion)
    logged(settings, [Event(id="ro", time=1.0, project="default", key="default", data=promoted), *events(30, seed=1)])
    second = run_cycle(settings)
    assert second.parent == champion
    kl = {gate.name: gate.value for gate in second.gates}
    assert kl["kl_champion"] != kl["kl_base"]


class Usurper:
    """A sink that takes the trainer's lease at its first step, as another trainer would from one that seems dead."""

    def __init__(self, settings, until_the_end: ExitStack) -> None:
        self.steps = 0
        self._settings, self._until_the_end = settings, until_the_end

    def log(self, metrics, step: int) -> None:
        self.steps += 1
        [holder] = self._settings.adapters_dir.glob(".turns/*/*/holder.json")
        os.utime(holder, (1.0, 1.0))
        self._until_the_end.enter_context(leased(self._settings))


def test_a_trainer_that_was_taken_over_from_learns_no_further_step(tmp_path, tiny_folder):
    settings = settings_for(tmp_path, tiny_folder)
    logged(settings, events(60))
    with ExitStack() as until_the_end:
        sink = Usurper(settings, until_the_end)
        checkpoint = until_the_end.enter_context(leased(settings))
        log = until_the_end.enter_context(open_log_of(settings))
        with pytest.raises(LeaseLost, match="another trainer has taken over"):
            Trainer(settings, log, checkpoint, tracker=Tracker(sink)).cycle(asked=True)
        assert sink.steps == 1
    assert Registry(settings.adapters_dir).list("default") == []


def test_votes_learnt_from_test_no_model_on_questions_that_it_was_taught(tmp_path, tiny_folder):
    """All are asked the same few questions: nothing is left to test on."""
    settings = settings_for(tmp_path, tiny_folder)
    logged(settings, [asked_of_all(event, 5) for event in events(60)])
    record = run_cycle(settings)
    assert record.divided_by == "rater"
    assert (record.outcome, record.reward_model["n"], record.judge["n"]) == ("no_signal", 0, 0)


def asked_of_all(event: Event, questions: int) -> Event:
    """The same, of one of so many questions."""
    if not isinstance(event.data, CompletionCreated):
        return event
    number = int(event.data.completion_id.split("-")[2])
    messages = (Message(role="user", content=f"question {number % questions}?"),)
    text = event.data.text.model_copy(update={"messages": messages})
    return event.model_copy(update={"data": event.data.model_copy(update={"text": text})})


def test_votes_of_other_projects_are_not_learnt_from(tmp_path, tiny_folder):
    settings = settings_for(tmp_path, tiny_folder)
    logged(settings, [event.model_copy(update={"project": "other"}) for event in events(20)])
    assert run_cycle(settings) is None


def test_feedback_whose_answer_never_came_is_noted_once_and_counts_if_it_comes_after_all(tmp_path, tiny_folder):
    settings = settings_for(tmp_path, tiny_folder)
    late = thumb("f1", "a", "ann", 1, time=1000.0)
    logged(settings, [late])
    with open_log_of(settings) as log:
        inbox = Inbox(log, "default")
        inbox.refresh()
        assert inbox.bury(now=1000.0 + 24 * 3600, hours=24) == 0
        assert inbox.bury(now=1001.0 + 24 * 3600, hours=24) == 1
        again = Inbox(log, "default")
        again.refresh()
        assert (inbox.bury(2e6, 24), again.bury(2e6, 24)) == (0, 1)  # the second trainer cannot know, the log does
        [letter] = TopicReader(log, "dead-letter").drain()
        assert (letter.event.data.reason, letter.event.data.topic) == ("no_target", "feedback")
        watermark = inbox.batch({}).offsets
        log.append([completion("a", "why?", "because")])
        inbox.refresh()
        assert inbox.batch(watermark).new == {"f1"}


def test_votes_without_a_pattern_train_nobody_and_are_waited_past(tmp_path, tiny_folder):
    settings = settings_for(tmp_path, tiny_folder)
    logged(settings, shuffled(events(60)))
    record = run_cycle(settings)
    assert record.outcome == "no_signal"
    assert "accuracy" in record.reason
    assert (record.adapter, record.steps) == (None, ())
    assert Registry(settings.adapters_dir).list("default") == []
    assert state_of(settings).state.votes == 60
    assert run_cycle(settings) is None


def test_training_that_diverges_publishes_and_commits_nothing_and_waits_for_more_votes(tmp_path, tiny_folder):
    reward = {"learning_rate": 1e30, "epochs": 2}
    settings = settings_for(tmp_path, tiny_folder, reward=reward)
    logged(settings, events(60))
    with trainer_of(settings) as trainer:
        record = trainer.cycle()
        assert record.outcome == "diverged"
        assert "the loss of 'reward' is" in record.reason
        assert trainer.cycle() is None  # the same votes would end the same
        assert Registry(settings.adapters_dir).list("default") == []
        assert not (settings.trainer_dir / "current.json").exists()
        logged(settings, events(8, seed=1))
        assert trainer.cycle().new_votes == 68
    assert [line["outcome"] for line in journal(settings.trainer_dir)] == ["diverged", "diverged"]


def test_a_cycle_that_succeeds_after_one_that_failed_is_in_the_journal_too(tmp_path, tiny_folder):
    settings = settings_for(tmp_path, tiny_folder)
    foreign = publish(Registry(settings.adapters_dir), write_lora(tmp_path / "foreign")).id
    promoted, back = (
        Event(id=name, time=when, project="default", key="default", data=RolloutChanged(**(found | {"rollout_id": name})))
        for name, when, found in (
            ("ro", 1.0, {"state": "PROMOTED", "champion": foreign, "challenger": foreign}),
            ("back", 2.0, {"state": "PROMOTED", "champion": "base", "challenger": "base"}),
        )
    )
    logged(settings, [promoted, *events(60)])
    command = [sys.executable, "-m", "ops.cli", "train", "--once", "--json"]
    once = subprocess.run(command, env=environment_of(settings), stdout=subprocess.PIPE, timeout=120)
    failed = json.loads(once.stdout)
    logged(settings, [back, *events(8, seed=1)])
    done = run_cycle(settings)
    assert (once.returncode, failed["outcome"], failed["cycle"]) == (1, "failed", done.cycle)
    assert [line["outcome"] for line in journal(settings.trainer_dir)] == ["failed", done.outcome]


def test_votes_on_nothing_that_can_be_asked_again_end_in_a_cycle_that_failed_and_says_so(tmp_path, tiny_folder):
    """Every chat of an application has a tool's answer in it."""
    settings = settings_for(tmp_path, tiny_folder)
    tool = Message(role="tool", content="42", tool_call_id="call_1")

    def with_tool(event: Event) -> Event:
        if not isinstance(event.data, CompletionCreated):
            return event
        text = event.data.text.model_copy(update={"messages": (*event.data.text.messages, tool)})
        return event.model_copy(update={"data": event.data.model_copy(update={"text": text})})

    logged(settings, list(map(with_tool, events(60))))
    with trainer_of(settings) as trainer:
        record = trainer.cycle()
        assert (record.outcome, record.votes) == ("failed", 60)
        assert "can be asked again" in record.reason
        assert trainer.cycle() is None


def test_an_engine_that_wants_a_token_gets_it(tmp_path, tiny_folder):
    settings = settings_for(tmp_path, tiny_folder, rollouts="engine")
    logged(settings, events(60))
    with scripted_vllm() as engine:
        engine.token = "s3cret"
        record = run_cycle(settings.model_copy(update={"engine_urls": (engine.url,), "engine_api_key": SecretStr("s3cret")}))
    (gate,) = [gate for gate in record.gates if gate.name == "engine_agreement"]
    assert gate.value > 0


def test_reinforcement_learning_sees_the_cautious_score(tmp_path, tiny_folder, monkeypatch):
    seen = []

    def noting(model, prompts, score, **rest):
        seen.append(score.__name__)
        raise TrainingDiverged("enough has been seen")

    monkeypatch.setattr("trainer.cycle.improve", noting)
    settings = settings_for(tmp_path, tiny_folder)
    logged(settings, events(60))
    assert run_cycle(settings).outcome == "diverged"
    assert seen == ["cautious"]


def test_who_has_left_the_crew_says_so_keeps_nothing_and_dies(tmp_path, tiny_folder, monkeypatch):
    def leave(*asked, **rest):
        raise LeftTheCrew("process 0 of 2 broke off: MemoryError")

    monkeypatch.setattr("trainer.cycle.improve", leave)
    settings = settings_for(tmp_path, tiny_folder)
    logged(settings, events(60))
    with pytest.raises(LeftTheCrew):
        run_cycle(settings)
    (line,) = journal(settings.trainer_dir)
    assert (line["outcome"], line["reason"]) == ("failed", "process 0 of 2 broke off: MemoryError")
    assert not (settings.trainer_dir / "progress").exists()


def test_a_champion_of_other_modules_is_not_trained_from_and_the_trainer_says_so(tmp_path, tiny_folder):
    settings = settings_for(tmp_path, tiny_folder)
    foreign = publish(Registry(settings.adapters_dir), write_lora(tmp_path / "foreign")).id
    promoted = RolloutChanged(rollout_id="ro", state="PROMOTED", champion=foreign, challenger=foreign)
    logged(settings, [Event(id="ro", time=1.0, project="default", key="default", data=promoted), *events(60)])
    with trainer_of(settings) as trainer:
        record = trainer.cycle()
        assert (record.outcome, record.parent) == ("failed", foreign)
        assert "target_modules" in record.reason
        assert trainer.cycle() is None  # until more votes come
    assert not (settings.trainer_dir / "current.json").exists()


def test_models_that_were_taught_by_other_people_than_now_are_not_gone_on_from(tmp_path, tiny_folder):
    reward = {"learning_rate": 1e-2, "epochs": 4, "replay": 0}  # the first votes' pattern is not learnt again
    settings = settings_for(tmp_path, tiny_folder, reward=reward)
    logged(settings, events(60, raters=4))  # so few that votes are divided by their questions
    first = run_cycle(settings)
    assert first.divided_by == "prompt"
    logged(settings, shuffled(events(120, seed=1)))
    second = run_cycle(settings)
    assert (second.outcome, second.divided_by) == ("no_signal", "rater")
    assert (state_of(settings).reward, state_of(settings).judge) == (None, None)
