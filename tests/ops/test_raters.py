from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

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
from feedback.ids import user_hash
from feedback.log import LogUnavailable, TopicReader
from feedback.replay import Point, replay
from feedback.sqlite_log import SqliteLog
from ops import metrics
from ops.cli.audit import app as audit
from ops.cli.raters import app
from ops.controller import run
from ops.errors import CommandError
from ops.exporting import export
from ops.raters import EVERY_S, Raters, RaterWatch
from ops.secrets import load_secret, subkey
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


@pytest.fixture
def fallen(tmp_path: Path, log: SqliteLog) -> Path:
    log.append(votes(0, 30) + votes(30, 50, wrong=("dot",)))
    RaterWatch(log, "default", lambda: 5_000.0).tick()
    return tmp_path


def raters(*arguments: str, at: Path) -> Result:
    return CliRunner().invoke(app, [*arguments, "--data-dir", str(at)], env={"COLUMNS": "200"})


def listed(data_dir: Path) -> dict[str, dict]:
    shown = raters("list", "--json", at=data_dir)
    assert shown.exit_code == 0, shown.exception
    return {row["rater"]: row for row in json.loads(shown.stdout)}


def test_raters_are_listed_with_their_figures_the_paused_ones_first(fallen):
    rows = listed(fallen)
    assert list(rows) == ["dot", "ann", "bob", "cid"]
    dot, ann = rows["dot"], rows["ann"]
    assert (dot["state"], dot["votes"], dot["in_doubt"], ann["state"]) == ("paused", 50, 20, "active")
    assert dot["change"]["by"] == "watch"
    assert (ann["majority"]["agreed"]["hits"], ann["majority"]["agreed"]["n"]) == (50, 50)
    assert ann["times"]["median_ms"] == 2_000.0
    assert ann["flip"] < 0.05
    table = raters("list", at=fallen).stdout
    assert "paused" in table
    assert "100% of 50" in table
    assert "stream 'stm_1': project 'default' has none" in str(raters("list", "--stream", "stm_1", at=fallen).exception)


def test_a_rater_is_shown_and_one_that_is_none_is_named(fallen):
    shown = raters("show", "dot", at=fallen)
    assert "paused since 1970-01-01 01:23:20 by watch: right on" in shown.stdout
    assert json.loads(raters("show", "dot", "--json", at=fallen).stdout)["in_doubt"] == 20
    refused = raters("show", "eve", at=fallen)
    assert isinstance(refused.exception, CommandError)
    assert "rater 'eve': no such rater of 'default' has a vote" in str(refused.exception)
    assert "one of the two" in str(raters("show", at=fallen).exception)
    assert "one of the two" in str(raters("show", "dot", "--user", "dot", at=fallen).exception)


def test_an_operator_pauses_and_reinstates_by_hash_or_user_and_it_is_audited(fallen, settings, log):
    done = raters("reinstate", "dot", "--reason", "a bad day", "--drop", at=fallen)
    assert done.exit_code == 0, done.exception
    assert "are dropped" in done.stdout
    assert {name: listed(fallen)["dot"][name] for name in ("state", "in_doubt", "dropped")} == {
        "state": "active",
        "in_doubt": 0,
        "dropped": 20,
    }
    again = raters("reinstate", "dot", at=fallen)
    assert isinstance(again.exception, CommandError)
    assert "rater 'dot': is not paused" in str(again.exception)

    paused = raters("pause", "--user", "alice", "--reason", "spam", "--hours", "2", "--json", at=fallen)
    alice = user_hash(subkey(load_secret(settings), "users"), "default", "alice")
    change = json.loads(paused.stdout)
    assert (change["rater"], change["state"], change["by"], change["reason"]) == (alice, "paused", "operator", "spam")
    assert [change.state for change in changes(log) if change.rater == alice] == ["paused"]
    tail = json.loads(CliRunner().invoke(audit, ["tail", "--json", "--data-dir", str(fallen)]).stdout)
    assert [(entry["what"], entry["target"]) for entry in tail] == [
        ("rater.reinstate", "default/dot"),
        ("rater.pause", f"default/{alice}"),
    ]


def test_votes_in_doubt_are_in_no_export_and_no_replay(fallen, log, tmp_path):
    report = export(log, format="kto", project="default", path=tmp_path / "out.jsonl", parquet=False)
    assert (report["votes"], report["left_out"]) == (180, {"unheard": 20})
    assert (
        export(log, format="raw", project="default", path=tmp_path / "raw.jsonl", parquet=False)["types"]["feedback.set"] == 200
    )
    assert len(replay(log, "default").lines) == 180
    assert len(replay(log, "default", end=Point(time=4_999.0)).lines) == 200  # before the pause
