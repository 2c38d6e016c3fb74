"""`plaudit feedback`, `replay` and `dead-letter` on a log in a folder."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from feedback_samples import amendment, completion, judged, preference, rating, retraction
from typer.testing import CliRunner

from feedback.codec import dead_letter, encode, no_target
from feedback.events import Correction, Event, FeedbackSet, Flag, Implicit, Score
from feedback.log import Position, Record, TopicReader
from feedback.partition import partition_of
from feedback.sqlite_log import SqliteLog
from ops.cli import app
from ops.dead_letters import letters_of, requeue
from ops.errors import CommandError
from ops.feedback_tail import newest, wanted_of
from ops.settings import load_settings

DAY = 86_400.0
CANARY = "a canary sang"
SAID = [
    completion("x1", project="default"),
    completion("x2", project="default"),
    completion("bad", outcome="error", project="default"),
    rating("f1", "x1", 1, time=10.0, project="default"),
    rating("f2", "x1", -1, time=20.0, project="default", comment=CANARY),
    rating("f3", "x2", 1, time=30.0, project="default", rater="r2"),
    rating("f4", "bad", 1, time=DAY + 1, project="default"),
    rating("f5", "gone", 1, time=DAY + 2, project="default"),
    rating("other", "x1", 1, time=40.0, project="else"),
]
JUDGED = [
    preference("p1", time=50.0),
    judged("c1", Correction(text=CANARY), time=60.0),
    judged("s1", Score(metric="resolved", value=1, boolean=True), time=70.0),
    judged("h1", Flag(harms=("toxicity", "hate")), time=80.0),
    judged("i1", Implicit(action="copy"), time=90.0),
    amendment("a1", {"comment": CANARY, "tags": ["too_long"]}),
    retraction("f2"),
]


def of_default(event: Event) -> Event:
    return event.model_copy(update={"project": "default"})


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    made = SqliteLog(load_settings(data_dir=tmp_path).log_path)
    shown = [event.model_copy(update={"time": 1.0}) for event in SAID[:3]]
    made.append([*shown, *SAID[3:6], *map(of_default, JUDGED), *SAID[6:]])
    yield made
    made.close()


@pytest.fixture
def plaudit(tmp_path: Path, log: SqliteLog) -> Callable[..., str]:
    """Runs a command on the log's folder; what it printed."""

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments, "--data-dir", str(tmp_path)], env={"COLUMNS": "200"})
        if done.exception is not None:
            raise done.exception
        return done.stdout

    return run


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_tail_shows_the_newest_of_a_project_oldest_first_and_no_text(plaudit):
    found = rows(plaudit("feedback", "tail", "--json"))
    assert [row["id"] for row in found] == [
        "e-f1", "e-f2", "e-f3", "e-p1", "e-c1", "e-s1", "e-h1", "e-i1", "e-a1", "e-undo-f2", "e-f4", "e-f5",
    ]  # fmt: skip
    assert [row["value"] for row in found[:8]] == [1, -1, 1, "a", None, {"resolved": True}, ["toxicity", "hate"], "copy"]
    assert CANARY not in json.dumps(found)
    assert found[8]["changes"] == {"comment": None, "tags": ["too_long"]}
    assert [row["id"] for row in rows(plaudit("feedback", "tail", "--lines", "2", "--json"))] == ["e-f4", "e-f5"]
    for line in (plaudit("feedback", "tail"), plaudit("feedback", "tail", "--lines", "0")):
        assert CANARY not in line


def test_tail_shows_text_when_asked_and_one_kind(plaudit):
    assert [row["text"] for row in rows(plaudit("feedback", "tail", "--kind", "correction", "--text", "--json"))] == [CANARY]
    assert plaudit("feedback", "tail", "--text").count(CANARY) == 3
    two = rows(plaudit("feedback", "tail", "--kind", "score", "--kind", "flag", "--json"))
    assert [row["kind"] for row in two] == ["score", "flag"]
    with pytest.raises(CommandError, match=r"--kind='hum'.*rating, preference"):
        plaudit("feedback", "tail", "--kind", "hum")


def test_tail_shows_an_amended_score_as_it_was_said(plaudit, log):
    def amended(name: str, **changes: Any) -> Event:
        return of_default(amendment(name, changes, kind="score", metric="resolved"))

    log.append(
        [
            amended("no", value=0.0, boolean=True),
            amended("yes", value=1.0, boolean=True),
            amended("half", value=1.0, boolean=False),
        ]
    )
    found = {row["id"]: row for row in rows(plaudit("feedback", "tail", "--json"))}
    assert [found[name]["changes"] for name in ("e-no", "e-yes", "e-half")] == [{"value": False}, {"value": True}, {"value": 1.0}]
    assert [type(found[name]["changes"]["value"]) for name in ("e-no", "e-yes", "e-half")] == [bool, bool, float]
    assert found["e-no"]["metric"] == "resolved"
    shown = plaudit("feedback", "tail")
    assert all(f"amended  score  resolved  value={value}  " in shown for value in ("False", "True", "1.0"))


def test_the_newest_are_found_however_far_back_and_what_comes_later_follows(opened_log: SqliteLog):
    wanted = wanted_of("default", ["score"])
    opened_log.append([of_default(judged("s", Score(metric="resolved", value=0), time=1.0))])
    opened_log.append([rating(f"f{n:03}", time=100.0 + n, project="default", key=f"c{n % 9}") for n in range(300)])
    events, _ = newest(opened_log, 1, wanted)
    assert [event.id for event in events] == ["e-s"]
    events, reader = newest(opened_log, 3, wanted_of("default", []))
    assert [event.id for event in events] == ["e-f297", "e-f298", "e-f299"]
    opened_log.append([rating("late", project="default", time=1.0)])
    assert [record.event.id for record in reader.poll()] == ["e-late"]


@pytest.fixture
def opened_log(tmp_path: Path) -> Iterator[SqliteLog]:
    made = SqliteLog(tmp_path / "other.db")
    yield made
    made.close()


def test_tail_follows_what_comes(tmp_path, log):
    command = [sys.executable, "-m", "ops.cli", "feedback", "tail", "-f", "-n", "1", "--json", "--data-dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["id"] == "e-f5"
            log.append([rating("late", time=1.0, project="default")])
            assert json.loads(process.stdout.readline())["id"] == "e-late"
        finally:
            process.kill()


def test_stats_count_every_fact_once_and_say_what_became_of_it(plaudit, log):
    log.append([no_target(Record(Position("feedback", 0, 9), SAID[7]), 3 * DAY)])
    log.append([dead_letter("poison", Position("feedback", 0, 1), b"\xff", 1.0, detail="no JSON")])
    found = json.loads(plaudit("feedback", "stats", "--json"))
    # f1, f3, p1, c1, s1, h1, i1 are joined, f2 replaced f1 and was taken back; f4 is about an error; f5 waits
    assert {name: found[name] for name in ("completions", "feedback_read", "joined", "waiting", "retractions", "amendments")} == {
        "completions": 3, "feedback_read": 10, "joined": 9, "waiting": 1, "retractions": 1, "amendments": 1,
    }  # fmt: skip
    assert (found["superseded"], found["excluded"], found["votes"], found["join_rate"], found["raters"]) == (2, 1, 6, 0.9, 2)
    assert found["by_kind"] == {"correction": 1, "flag": 1, "implicit": 1, "preference": 1, "rating": 5, "score": 1}
    assert found["by_source"] == {"end_user": 10}
    assert found["by_day"] == {"1970-01-01": 8, "1970-01-02": 2}
    assert found["thumbs_by_adapter"] == {"base": {"up": 1, "down": 0}}
    assert found["dead_letters"] == {"no_target": 1, "poison": 1}
    assert "Thumbs by adapter" in plaudit("feedback", "stats")


def test_stats_of_an_empty_log(tmp_path):
    SqliteLog(load_settings(data_dir=tmp_path).log_path).close()
    done = CliRunner().invoke(app, ["feedback", "stats", "--json", "--data-dir", str(tmp_path)])
    assert json.loads(done.stdout)["join_rate"] is None


def test_replay_writes_the_same_bytes_again_also_when_the_log_has_grown(plaudit, log, tmp_path):
    first, again = tmp_path / "first.jsonl", tmp_path / "sub" / "again.jsonl"
    report = json.loads(plaudit("replay", "--out", str(first), "--json"))
    assert report["sha256"] == hashlib.sha256(first.read_bytes()).hexdigest()
    assert (report["rows"], report["counts"]["votes"], report["missing"]) == (6, 6, 0)
    assert CANARY.encode() not in first.read_bytes()
    (tmp_path / "report.json").write_text(json.dumps(report))
    log.append([rating("later", "x2", -1, project="default", rater="r2", time=1.0)])
    same = json.loads(plaudit("replay", "--to", f"@{tmp_path / 'report.json'}", "--out", str(again), "--json"))
    assert again.read_bytes() == first.read_bytes()
    assert same["offsets"] == report["offsets"]
    assert json.loads(plaudit("replay", "--json"))["sha256"] != report["sha256"]
    newer = json.loads(plaudit("replay", "--from", f"@{tmp_path / 'report.json'}", "--json"))
    assert newer["rows"] == 1
    assert report["sha256"] in plaudit("replay", "--to", f"@{tmp_path / 'report.json'}")


@pytest.mark.parametrize("end", ["25", "1970-01-01T00:00:25", "1970-01-01T01:00:25+01:00", "1970-01-01T00:00:25Z"])
def test_replay_takes_times_in_every_form(plaudit, end):
    report = json.loads(plaudit("replay", "--to", end, "--json"))
    assert (report["rows"], report["counts"]["superseded"]) == (1, 1)  # f2 stood then
    assert json.loads(plaudit("replay", "--from", "65", "--json"))["rows"] == 3


@pytest.mark.parametrize("wrong", ["yesterday", "nan", "@none.json", "@{}"])
def test_replay_names_a_point_that_is_none(plaudit, tmp_path, wrong):
    if wrong == "@{}":
        (tmp_path / "empty.json").write_text("{}")
        wrong = f"@{tmp_path / 'empty.json'}"
    with pytest.raises(CommandError, match=r"--to="):
        plaudit("replay", "--to", wrong)


def test_replay_into_a_place_that_cannot_be_written_leaves_nothing(plaudit, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CommandError, match=r"--out="):
        plaudit("replay", "--out", str(tmp_path / "file" / "x.jsonl"))


def test_dead_letters_are_listed_with_reason_place_and_age_and_without_text(plaudit, log):
    record = Record(Position("feedback", 3, 9), of_default(rating("f9", "gone", comment=CANARY)))
    log.append([no_target(record, 1000.0)])
    log.append([no_target(Record(Position("feedback", 4, 1), SAID[-1]), 2000.0)])  # another project's
    [row] = json.loads(plaudit("dead-letter", "list", "--json"))
    assert row.pop("age_seconds") > 1e9
    assert row.pop("bytes") > 100
    assert row == {
        "id": "dead-letter:no_target:feedback:3:9",
        "reason": "no_target",
        "detail": "",
        "position": "feedback:3:9",
        "project": "default",
        "time": 1000.0,
    }
    assert "no_target" in plaudit("dead-letter", "list")
    [done] = json.loads(plaudit("dead-letter", "requeue", "--all", "--json"))
    assert done["outcome"] == "joins_by_itself"
    with pytest.raises(CommandError, match="'nobody'"):
        plaudit("dead-letter", "requeue", "nobody")
    with pytest.raises(CommandError, match="--all"):
        plaudit("dead-letter", "requeue")


def put(log: SqliteLog, event: Event, id: str, **headers: str) -> None:
    """An event in the log's file as another program might have put it: under any row id, with any headers."""
    body, attributes = encode(event)
    text = json.dumps([(name, headers.get(name, value.decode())) for name, value in attributes])
    with sqlite3.connect(log.path) as connection:
        row = (event.topic, partition_of(event.key, 12), log.end(event.topic, partition_of(event.key, 12)))
        connection.execute("UPDATE heads SET next = next + 1 WHERE topic = ? AND partition = ?", row[:2])
        sql = "INSERT INTO events (topic, partition, offset, id, time, headers, body) VALUES (?, ?, ?, ?, 0, ?, ?)"
        connection.execute(sql, (*row, id, text, body))
    connection.close()


def test_requeue_appends_what_can_be_read_by_now_once_and_says_why_of_the_rest(plaudit, log):
    put(log, of_default(rating("old", "x2", rater="r5")), "copy", ce_specversion="0.3")
    put(log, of_default(rating("worse", "x2", rater="r6")), "worse", ce_specversion="0.3")
    TopicReader(log, "feedback").drain()  # a reader meets them: two letters
    log.append([])  # behind them
    with sqlite3.connect(log.path) as connection:  # a newer version can read the first
        connection.execute("UPDATE events SET headers = replace(headers, '\"0.3\"', '\"1.0\"') WHERE id = 'copy'")
    connection.close()
    done = [each.outcome for each in requeue(log, letters_of(log, "default"))]
    assert sorted(done) == ["requeued", "unreadable"]
    again = [each.outcome for each in requeue(log, letters_of(log, "default"))]
    assert sorted(again) == ["requeued", "unreadable"]
    names = [r.event.data.feedback_id for r in TopicReader(log, "feedback").drain() if isinstance(r.event.data, FeedbackSet)]
    assert names.count("old") == 1
    with sqlite3.connect(log.path) as connection:
        assert connection.execute("SELECT COUNT(*) FROM events WHERE id = 'e-old'").fetchone() == (1,)
    connection.close()


def test_requeue_of_what_can_be_read_in_its_place_adds_nothing(log):
    position = log.append([of_default(rating("here", "x2", rater="r7"))])[0]
    log.append([dead_letter("poison", position, b"?", 1.0, detail="an older version could not read it")])
    before = log.end("feedback", position.partition)
    assert [each.outcome for each in requeue(log, letters_of(log, "default"))] == ["in_place"]
    assert log.end("feedback", position.partition) == before


def test_what_retention_or_another_outbox_has_is_said_to_be_gone(log):
    log.append([dead_letter("poison", Position("feedback", 5, 700), b"?", 1.0)])
    log.append([dead_letter("refused", Position("feedback", 5, 700), b"?", 1.0, project="default", detail="too large")])
    assert [each.outcome for each in requeue(log, letters_of(log, "default"))] == ["gone", "gone"]
