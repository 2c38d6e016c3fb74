"""Imports into a real log: every row accounted for, once, whatever happens in between."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from feedback.join import Joiner
from feedback.log import LogUnavailable, TopicReader
from feedback.raters.weights import ramps
from feedback.sqlite_log import SqliteLog
from ops.errors import CommandError
from ops.evidence.counts import fact_of
from ops.importing import Account, import_rows
from ops.row_files import Row


def pair(number: int, rejected: str = "No.") -> dict[str, str]:
    question = f"\n\nHuman: Why {number}?\n\nAssistant:"
    return {"chosen": f"{question} Yes.", "rejected": f"{question} {rejected}"}


def rows(*values: Any) -> list[Row]:
    return [Row(f"f:{number}", value) for number, value in enumerate(values, 1)]


@pytest.fixture
def log(tmp_path: Path):
    log = SqliteLog(tmp_path / "log.db", partitions=3)
    yield log
    log.close()


def run(log: Any, *values: Any, project: str = "p", format: str = "hh-rlhf") -> Account:
    return import_rows(log, rows(*values), format=format, project=project, clock=lambda: 50.0)


def events(log: SqliteLog) -> list[Any]:
    return [record.event for topic in ("completions", "feedback") for record in TopicReader(log, topic).drain()]


def votes(log: SqliteLog, project: str = "p") -> list[Any]:
    joiner = Joiner(project)
    for topic in ("completions", "feedback"):
        joiner.extend(TopicReader(log, topic).drain())
    return joiner.votes()


def test_every_row_is_imported_or_dropped_with_its_number_and_reason(log):
    report = run(log, pair(1), pair(2, rejected="Yes."), "text", pair(3), pair(1)).report()
    assert report == {
        "rows": 5,
        "imported": 2,
        "already": 0,
        "dropped": 3,
        "votes": 2,
        "reasons": {
            "the answers are the same": 1,
            "the row is no object with columns": 1,
            "the row says the same as an earlier one": 1,
        },
        "dropped_rows": [
            {"row": 2, "where": "f:2", "reason": "the answers are the same", "detail": ""},
            {"row": 3, "where": "f:3", "reason": "the row is no object with columns", "detail": ""},
            {"row": 5, "where": "f:5", "reason": "the row says the same as an earlier one", "detail": "row 1"},
        ],
    }
    assert len(votes(log)) == 2


def test_a_second_import_adds_nothing_and_a_longer_one_adds_the_rest(log):
    run(log, pair(1), pair(2))
    before = events(log)
    again = run(log, pair(1), pair(2))
    assert (again.rows, again.imported, again.already, again.votes) == (2, 0, 2, 0)
    assert events(log) == before
    longer = run(log, pair(1), pair(2), pair(3))
    assert (longer.imported, longer.already, len(votes(log))) == (1, 2, 3)


def test_another_project_has_its_own(log):
    assert (run(log, pair(1)).imported, run(log, pair(1), project="q").imported) == (1, 1)
    assert (len(votes(log)), len(votes(log, "q"))) == (1, 1)


class _Failing:
    """A log that fails at its nth append."""

    def __init__(self, log: SqliteLog, appends: int) -> None:
        self._log = log
        self._left = appends

    def append(self, batch: Any, timeout: float) -> Any:
        self._left -= 1
        if self._left < 0:
            self._log.append(batch[:1], timeout)
            raise LogUnavailable("the disk is full")
        return self._log.append(batch, timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def test_an_import_that_broke_off_is_finished_by_the_next_one(log):
    """Groups are of 200 rows: the second fails after one event of it."""
    values = [pair(number) for number in range(450)]
    with pytest.raises(LogUnavailable):
        run(_Failing(log, 1), *values)
    assert len(votes(log)) == 200
    after = run(log, *values)
    assert (after.rows, after.already, after.imported) == (450, 200, 250)
    assert Counter(event.id for event in events(log)).most_common(1)[0][1] == 1
    assert len(votes(log)) == 450


def test_rows_before_a_damage_are_durable(log):
    def damaged():
        yield from rows(pair(1), pair(2))
        raise CommandError("the file ends here")

    with pytest.raises(CommandError, match="the file ends here"):
        import_rows(log, damaged(), format="hh-rlhf", project="p")
    assert len(votes(log)) == 2


def test_a_row_that_is_too_long_is_dropped_alone(log):
    account = run(log, pair(1), pair(2, rejected="x" * 1_000_000), pair(3))
    assert (account.imported, [d.reason for d in account.dropped]) == (2, ["the row is too long"])
    assert account.dropped[0].row == 2
    assert len(votes(log)) == 2


def test_imported_votes_are_evidence_for_no_rollout_and_lessons_for_the_trainer(log):
    from trainer.examples import examples_of, weighted

    run(log, *[pair(number) for number in range(300)])
    assert all(fact_of(event) is None for event in events(log))
    lessons = weighted(examples_of(votes(log)))
    assert len(lessons) == 300
    assert {round(lesson.weight, 9) for lesson in lessons} == {1.0}  # 300 raters: no cap silences the set
    assert {lesson.label for lesson in lessons} == {"a", "b"}


def test_a_rater_of_imported_votes_is_no_newcomer(log):
    run(log, pair(1), pair(2))
    assert set(ramps(votes(log)).values()) == {1.0}


def test_a_row_of_pku_is_two_lessons_and_a_flag(log):
    safe = {"is_response_0_safe": False, "is_response_1_safe": True, "better_response_id": 0, "safer_response_id": 1}
    account = run(log, {"prompt": "How?", "response_0": "So.", "response_1": "Never.", **safe}, format="pku-saferlhf")
    assert (account.rows, account.imported, account.votes) == (1, 1, 3)
    assert Counter(vote.judgement.kind for vote in votes(log)) == {"preference": 2, "flag": 1}


def test_the_report_is_json(log):
    assert json.loads(json.dumps(run(log, pair(1), 7).report()))["dropped"] == 1
