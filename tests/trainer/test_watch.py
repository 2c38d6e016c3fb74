from __future__ import annotations

import time

import pytest
from vote_log import events, settings_for

import trainer.watch
from feedback.events import Event, FeedbackSet, RolloutChanged
from feedback.join import Joiner
from feedback.log import Position, Record
from ops.open_log import open_log_of
from trainer.checkpoint import Loaded, State
from trainer.inbox import Batch
from trainer.process import run_cycle, trainer_of
from trainer.watch import Watch

VOTES = Joiner()
VOTES.extend(Record(Position(event.topic, 0, n), event) for n, event in enumerate(events(120)))

FIRST = Loaded(State(), "", None, None, None)
LATER = Loaded(State(cycle=3, champion="v1", divided_by="rater"), "", "v1", None, None)


def batch(new: int, champion: str = "v1") -> Batch:
    """So many new votes after forty older ones."""
    votes = tuple(VOTES.votes()[: 40 + new])
    return Batch(votes, frozenset(vote.feedback_id for vote in votes[40:]), (), champion, {})


@pytest.fixture
def settings(tmp_path, tiny_folder):
    def make(**train: object):
        return settings_for(tmp_path, tiny_folder, **({"min_new_votes": 10, "min_effective_labels": 40} | train))

    return make


@pytest.fixture
def looks(monkeypatch):
    made = []
    believed = trainer.watch.believed
    monkeypatch.setattr("trainer.watch.believed", lambda votes: made.append(len(votes)) or believed(votes))
    return made


def test_enough_new_labels_start_a_cycle(settings):
    watch = Watch(settings(), LATER)
    assert [watch.trigger(batch(new)) for new in (0, 9, 30, 60)] == [None, None, None, "labels"]


def test_labels_are_counted_by_what_they_teach_and_votes_by_what_they_are(settings):
    assert Watch(settings(min_effective_labels=120), LATER).trigger(batch(80)) is None
    assert Watch(settings(min_effective_labels=1), LATER).trigger(batch(9)) is None
    assert Watch(settings(min_effective_labels=1), LATER).trigger(batch(10)) == "labels"


def test_another_champion_starts_a_cycle_with_fewer_and_only_one(settings):
    watch = Watch(settings(), LATER)
    assert watch.trigger(batch(12)) is None
    assert watch.trigger(batch(9, "v2")) is None
    assert watch.trigger(batch(12, "v2")) == "champion"
    watch.gave_up(batch(12, "v2"))
    assert watch.trigger(batch(30, "v2")) is None  # 18 are fresh, and it was tried
    assert watch.trigger(batch(30, "v3")) == "champion"
    assert Watch(settings(retrain_on_promotion=False), LATER).trigger(batch(12, "v2")) is None


def test_the_first_champion_of_all_is_no_other_one(settings):
    assert Watch(settings(), FIRST).trigger(batch(12, "base")) is None


def test_votes_on_which_training_came_to_nothing_are_not_tried_again_alone(settings):
    watch = Watch(settings(min_effective_labels=15), LATER)
    assert watch.trigger(batch(20)) == "labels"
    watch.gave_up(batch(20))
    assert [watch.trigger(batch(new)) for new in (20, 29, 40)] == [None, None, "labels"]


def test_a_poll_that_cannot_change_anything_looks_at_nothing(settings, looks):
    watch = Watch(settings(), LATER)
    for new in (*range(9), 10, 10, 11, 15, 19):
        watch.trigger(batch(new))
    assert looks == [50]  # 30 are missing: the next look is ten votes later
    watch.trigger(batch(20))
    assert looks == [50, 60]


def test_the_models_are_not_asked_again_about_a_few_votes(settings, monkeypatch):
    asked = []
    monkeypatch.setattr(Watch, "_ask", lambda self, examples, batch: asked.append(len(batch.new)))
    watch = Watch(settings(min_effective_labels=25), LATER)
    for new in range(10, 24):
        assert watch.trigger(batch(new)) is None
    assert asked == [10, 22]  # it also looked at 18, when eight were new


def turned(facts: list[Event]) -> list[Event]:
    """The same people on the same answers, of the opposite taste."""

    def other(event: Event) -> Event:
        if not isinstance(event.data, FeedbackSet):
            return event
        judgement = event.data.judgement
        value = -judgement.value if judgement.kind == "rating" else "ab"[judgement.value == "a"]
        changed = event.data.model_copy(update={"judgement": judgement.model_copy(update={"value": value})})
        return event.model_copy(update={"data": changed})

    return [other(event) for event in facts]


def test_people_who_come_to_judge_otherwise_start_a_cycle_and_the_record_says_why(tmp_path, tiny_folder, monkeypatch):
    ppo = {"steps": 1, "prompts_per_step": 2, "samples_per_prompt": 2, "max_new_tokens": 4, "value_warmup_steps": 0}
    often = {"ppo": ppo, "gates": {"prompts": 4}, "keep_every": 0, "min_new_votes": 20}
    settings = settings_for(tmp_path, tiny_folder, min_effective_labels=1000, **often)
    loads = []
    load = trainer.watch.load_model
    monkeypatch.setattr("trainer.watch.load_model", lambda *what: loads.append(1) or load(*what))

    def more(facts: list[Event]) -> None:
        with open_log_of(settings) as log:
            log.append(facts)

    more(events(60))
    record = run_cycle(settings)
    assert (record.trigger, record.effective_labels) == ("asked", pytest.approx(60, abs=6))
    more(events(20, seed=1))
    with trainer_of(settings) as at_work:
        assert at_work.read() is None  # they judge as they did
        assert at_work.read() is None
        assert len(loads) == 1
        more(turned(events(19, seed=2)))
        assert at_work.read() is None
        assert len(loads) == 1  # too few to ask the models about
        more(turned(events(21, seed=3)))
        found = at_work.read()
        assert (found.trigger, len(found.batch.new), len(loads)) == ("drift", 60, 2)
    for train, expected in (({"max_nll_rise": None}, None), ({"min_effective_labels": 20}, "labels")):
        with trainer_of(settings.model_copy(update={"train": settings.train.model_copy(update=train)})) as other:
            found = other.read()
            assert (found and found.trigger) == expected
    promoted = RolloutChanged(rollout_id="ro", state="PROMOTED", champion=record.adapter, challenger=record.adapter)
    more([Event(id="ro", time=1.0, project="default", key="default", data=promoted)])
    now = time.localtime()
    closed = f"{(now.tm_hour + 2) % 24}-{(now.tm_hour + 3) % 24}"
    with trainer_of(settings) as promoted_one:
        assert promoted_one.read().trigger == "champion"
    with trainer_of(settings.model_copy(update={"train": settings.train.model_copy(update={"hours": closed})})) as asleep:
        assert asleep.read() is None
        assert asleep.read(asked=True).trigger == "asked"
