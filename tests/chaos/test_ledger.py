"""What counts as lost, as doubled and as out of order. Numbers by hand."""

from __future__ import annotations

from pathlib import Path

from feedback.sqlite_log import SqliteLog
from ops.chaos.clock import answered
from ops.chaos.ledger import Ledger, numbered, tally
from ops.chaos.scenario import Outcome


def test_everything_once_and_in_order_is_as_promised():
    read = [("a", 0), ("b", 5), ("a", 1), ("a", 2)]
    assert tally({"a": [0, 1, 2], "b": [5]}, read) == (4, 0, 0, 0)


def test_what_was_acknowledged_and_is_not_there_is_lost_and_what_was_not_may_be_there():
    assert tally({"a": [0, 1, 2], "b": [0]}, [("a", 0), ("a", 2), ("a", 3)]) == (4, 2, 0, 0)


def test_every_further_copy_is_one_effect_too_many_also_of_what_was_never_acknowledged():
    assert tally({"a": [0]}, [("a", 0), ("a", 0), ("a", 0), ("a", 1), ("a", 1)]) == (1, 0, 3, 0)


def test_what_comes_after_a_later_one_of_its_target_is_out_of_order_and_a_copy_is_not():
    assert tally({"a": [0, 1, 2, 3]}, [("a", 0), ("a", 3), ("a", 1), ("a", 2), ("a", 0)]) == (4, 0, 1, 2)


def test_other_targets_are_nobodys_business():
    assert tally({"a": [0]}, [("z", 1), ("z", 0), ("a", 0)]) == (1, 0, 0, 0)


def test_the_vote_that_stands_has_to_be_the_last_acknowledged_or_a_later_one(tmp_path: Path):
    log, ledger = SqliteLog(tmp_path / "log.db"), Ledger()
    log.append([answered("a", 0.0), answered("b", 0.0)])
    log.append([numbered("a", 0, 0.0), numbered("a", 1, 0.0), numbered("b", 0, 0.0)])
    for target, number in (("a", 0), ("b", 0)):
        ledger.note(target, number)
    assert ledger.standing(log) == []  # a's number 1 was written, and its client never told
    ledger.note("b", 1)
    assert ledger.standing(log) == ["1 of 2 standing votes are not the last acknowledged"]
    log.close()


def test_a_scenario_that_has_shown_nothing_has_not_passed():
    good = {"faults": 1, "acknowledged": 1, "lost": 0, "doubled": 0, "reordered": 0}
    assert Outcome(**good).passed
    for name, value in [("faults", 0), ("acknowledged", 0), ("lost", 1), ("doubled", 1), ("reordered", 1)]:
        assert not Outcome(**(good | {name: value})).passed, name
    assert not Outcome(**good, problems=("anything",)).passed
