"""The dataset rebuilt from the log: the same bytes from the same records, on every backend."""

from __future__ import annotations

import hashlib
import json

import pytest
from feedback_samples import amendment, completion, judged, preference, rating, retraction
from log_backends import Backend

from feedback.events import Correction, Score
from feedback.log import OffsetOutOfRange
from feedback.partition import partition_of
from feedback.replay import Point, replay

HISTORY = [
    completion("x1"),
    completion("x2"),
    completion("bad", outcome="timeout"),
    rating("f1", "x1", 1, time=100.0, comment="a canary sang"),
    rating("f2", "x1", -1, time=200.0, sequence=2),
    rating("f3", "bad", 1, time=250.0),
    preference("f4", ("x1", "x2"), "b", rater="r2", time=300.0),
    judged("f5", Correction(text="a second canary"), time=350.0),
    judged("f6", Score(metric="resolved", value=0.5), time=400.0),
    rating("f7", "x2", 1, time=500.0),
    retraction("f7", "x2"),
    amendment("f2a", {"tags": ["too_long"]}, "x1", sequence=3),
    rating("orphan", "gone", time=600.0),
]


def ids(dataset) -> list[str]:
    return [json.loads(line)["feedback_id"] for line in dataset.lines]


def test_a_row_has_what_was_judged_and_by_whom_and_nothing_that_people_wrote(opened):
    log = opened()
    log.append(HISTORY)
    dataset = replay(log, "p")
    assert ids(dataset) == ["f2", "f4", "f5", "f6"]  # by time; f1 was replaced, f3 is about a timeout, f7 was taken back
    assert json.loads(dataset.lines[1]) == {
        "feedback_id": "f4",
        "time": 300.0,
        "project": "p",
        "conversation": "c1",
        "rater": "r2",
        "source": "end_user",
        "key_id": "",
        "stream": "",
        "task": "",
        "kind": "preference",
        "judgement": {"tags": [], "decision_ms": None, "value": "b"},
        "comparison_id": "cmp-x1-x2",
        "completions": [
            {"id": name, "adapter": "base", "arm": "champion", "propensity": 1.0, "prompt_hash": "", "answer_hash": ""}
            for name in ("x1", "x2")
        ],
    }
    assert json.loads(dataset.lines[0])["judgement"] == {"tags": ["too_long"], "decision_ms": None, "value": -1}
    assert json.loads(dataset.lines[3])["judgement"]["metric"] == "resolved"
    assert b"canary" not in b"".join(dataset.lines)
    assert dataset.sha256 == hashlib.sha256(b"".join(dataset.lines)).hexdigest()
    assert (dataset.counts.votes, dataset.counts.waiting, dataset.missing) == (4, 1, 0)


def test_every_backend_gives_the_same_bytes_also_of_a_part_while_the_log_grows(backend: Backend, opened):
    log = backend.open()
    log.append(HISTORY[:9])
    backend.settle()
    first = replay(log, "p")
    log.append([*HISTORY[9:], rating("f8", "x2", -1, rater="r9", time=1.0)])
    backend.settle()
    again = replay(backend.open(), "p", end=Point(offsets=first.offsets))
    assert (again.lines, again.offsets) == (first.lines, first.offsets)
    assert replay(log, "p").lines != first.lines
    twin = opened(path="twin.db")
    twin.append(HISTORY[:9])
    assert replay(twin, "p").sha256 == first.sha256


def test_from_and_to_are_times_or_offsets_and_what_stands_at_the_end_is_what_counts(opened):
    log = opened()
    log.append(HISTORY)
    assert ids(replay(log, "p", end=Point(time=150.0))) == ["f1"]  # it still stood then
    assert ids(replay(log, "p", end=Point(time=300.0))) == ["f2"]  # before, not at
    assert ids(replay(log, "p", start=Point(time=300.0))) == ["f4", "f5", "f6"]  # at, or later
    assert ids(replay(log, "p", start=Point(time=200.0), end=Point(time=350.0))) == ["f2", "f4"]
    middle = replay(
        log, "p", end=Point(offsets={"completions": {partition_of("c1", 12): 3}, "feedback": {partition_of("c1", 12): 4}})
    )
    assert ids(middle) == ["f2", "f4"]
    assert ids(replay(log, "p", start=Point(offsets=middle.offsets))) == ["f2", "f5", "f6"]  # f2 was amended since
    assert ids(replay(log, "q")) == []


def test_an_end_beyond_the_logs_is_a_hard_error(opened):
    log = opened()
    log.append(HISTORY)
    with pytest.raises(OffsetOutOfRange, match="offset 99"):
        replay(log, "p", end=Point(offsets={"feedback": {0: 99}}))


def test_a_log_whose_start_is_gone_says_how_much_is_missing(tmp_path):
    file = Backend(tmp_path)
    log = file.open()
    log.append(HISTORY)
    file.trim("completions", partition_of("c1", 12), 2)
    dataset = replay(log, "p")
    assert (dataset.missing, ids(dataset)) == (2, [])
    file.close()
