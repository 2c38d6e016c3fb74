from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from feedback.events import (
    CompletionCreated,
    CompletionText,
    Event,
    Exposure,
    FeedbackSet,
    Message,
    RaterChanged,
    Rating,
    Target,
)
from feedback.log import LogUnavailable, TopicReader
from feedback.sqlite_log import SqliteLog
from ops import metrics
from ops.controller import run
from ops.raters import EVERY_S, Raters, RaterWatch
from ops.settings import Settings

RATERS = ("ann", "bob", "cid", "dot")


def answer(n: int, text: str = "an answer") -> Event:
    data = CompletionCreated(
        completion_id=f"chatcmpl-{n}",
        conversation=f"c{n}",
        user="u",
        text=CompletionText(messages=(Message(role="user", content=f"question {n}"),), answer=text),
        exposure=Exposure(completion_id=f"chatcmpl-{n}", adapter="base"),
    )
    return Event(id=f"e{n}", time=float(n), project="default", key=f"c{n}", data=data)


def thumb(n: int, rater: str, value: int, time: float) -> Event:
    data = FeedbackSet(
        feedback_id=f"fb-{n}-{rater}",
        target=Target(completion_ids=(f"chatcmpl-{n}",)),
        rater=rater,
        judgement=Rating(value=value, decision_ms=2_000.0),
    )
    return Event(id=f"fb-{n}-{rater}", time=time, project="default", key=f"c{n}", data=data)


def votes(first: int, last: int, wrong: tuple[str, ...] = ()) -> list[Event]:
    """All four rate the answers from the first to before the last, one a minute; the wrong ones the other way round."""
    facts = []
    for n in range(first, last):
        facts.append(answer(n))
        facts += [thumb(n, rater, -1 if rater in wrong else 1, 60.0 * n) for rater in RATERS]
    return facts


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, metrics_port_controller=0, model="starter")


@pytest.fixture
def log(settings: Settings) -> Iterator[SqliteLog]:
    log = SqliteLog(settings.log_path)
    yield log
    log.close()


def changes(log: SqliteLog) -> list[RaterChanged]:
    return [r.event.data for r in TopicReader(log, "control").drain() if isinstance(r.event.data, RaterChanged)]


def test_who_falls_is_paused_once_in_the_log_by_however_many_watches(log):
    log.append(votes(0, 30) + votes(30, 50, wrong=("dot",)))
    first, second = RaterWatch(log, "default", lambda: 5_000.0), RaterWatch(log, "default", lambda: 6_000.0)
    [paused] = first.tick()
    assert (paused.data.rater, paused.data.state, paused.data.since) == ("dot", "paused", 60.0 * 29)
    assert paused.time == 5_000.0
    assert second.tick() == []
    assert [change.rater for change in changes(log)] == ["dot"]
    assert metrics.RATERS.labels("default", "paused")._value.get() == 1
    assert metrics.RATERS.labels("default", "active")._value.get() == 3
    assert metrics.VOTES_IN_DOUBT.labels("default")._value.get() == 20
    assert metrics.FALLS_WITHHELD.labels("default")._value.get() == 0


def test_of_two_who_decide_at_once_the_first_holds(log):
    log.append(votes(0, 30) + votes(30, 50, wrong=("dot",)))

    class Overtaken:
        def append(self, events, timeout=10.0):
            [event] = events
            log.append([event.model_copy(update={"data": event.data.model_copy(update={"reason": "an operator's"})})])
            return log.append(events)

    watch = RaterWatch(log, "default", lambda: 6_000.0)
    watch._log = Overtaken()
    assert watch.tick() == []
    assert [change.reason for change in changes(log)] == ["an operator's"]


def test_the_watch_looks_once_a_minute_and_again_after_the_log_has_failed(log):
    now = [0.0]
    watch = RaterWatch(log, "default", lambda: now[0])
    log.append(votes(0, 30))
    assert watch.tick() == []
    log.append(votes(30, 50, wrong=("dot",)))
    now[0] = EVERY_S - 1
    assert watch.tick() == []

    class Full:
        def append(self, events, timeout=10.0):
            raise LogUnavailable("disk full")

    watch._log, now[0] = Full(), EVERY_S
    with pytest.raises(LogUnavailable):
        watch.tick()
    watch._log = log
    assert [event.data.rater for event in watch.tick()] == ["dot"]


def test_no_text_is_kept_and_equal_answers_are_one_item_all_the_same(log):
    same = answer(0, "canary 4711")
    again = same.model_copy(
        update={"id": "e1", "data": same.data.model_copy(update={"completion_id": "chatcmpl-1"})},
    )
    log.append([same, again, thumb(0, "ann", 1, 1.0), thumb(1, "bob", 1, 2.0)])
    raters = Raters(log, "default")
    raters.refresh()
    first, second = raters.votes()
    assert "canary" not in repr(raters.votes())
    assert first.completions[0].answer_hash == second.completions[0].answer_hash != ""
    other = Raters(log, "default")
    other.refresh()
    assert other.votes()[0].completions[0].answer_hash != first.completions[0].answer_hash  # salted


def test_the_controllers_command_watches_the_raters(settings, log, capsys):
    log.append(votes(0, 30) + votes(30, 50, wrong=("dot",)))
    run(settings, once=True, json=True)
    [event] = json.loads(capsys.readouterr().out)
    assert (event["data"]["type"], event["data"]["rater"]) == ("rater.changed", "dot")
