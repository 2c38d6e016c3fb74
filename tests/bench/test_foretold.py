from __future__ import annotations

import numpy as np
import pytest

from ops.bench.foretold import Interval, by_fold, intervals, right, table


def test_a_margin_is_right_when_it_has_its_votes_sign_and_half_right_when_it_has_none():
    assert right([2.0, -1.0, 0.0, 3.0], [1, 1, -1, -1]).tolist() == [1, 0, 0.5, 0]


def test_where_all_agree_there_is_nothing_to_doubt():
    assert intervals({"all": np.ones(50)}, [str(n) for n in range(50)])["all"] == Interval(1.0, 1.0, 1.0)


def test_the_interval_of_a_share_is_about_two_standard_errors_wide():
    values = np.array([1.0] * 60 + [0.0] * 40)
    found = intervals({"it": values}, [str(n) for n in range(100)])["it"]
    error = (0.6 * 0.4 / 100) ** 0.5  # 0.049
    assert found.value == pytest.approx(0.6)
    assert found.high - 0.6 == pytest.approx(1.96 * error, abs=0.02)
    assert 0.6 - found.low == pytest.approx(1.96 * error, abs=0.02)


def test_votes_of_one_conversation_are_drawn_together():
    """25 conversations of 4 votes that all say the same tell as much as 25 votes: twice the width."""
    values = np.repeat([1.0] * 15 + [0.0] * 10, 4)
    alone = intervals({"it": values}, [str(n) for n in range(100)])["it"]
    together = intervals({"it": values}, [str(n // 4) for n in range(100)])["it"]
    assert (together.high - together.low) / (alone.high - alone.low) == pytest.approx(2, rel=0.15)


def test_a_lead_is_taken_vote_by_vote_so_two_ways_that_err_together_differ_by_nothing():
    same = np.array([1.0, 0.0] * 20)
    better = same.copy()
    better[1] = 1.0
    groups = [str(n) for n in range(40)]
    rows = table({"base": same, "equal": same, "best": better}, groups, [n % 2 for n in range(40)], best="best")
    assert rows["equal"]["lead"]["value"] == pytest.approx(1 / 40)
    assert rows["equal"]["lead"]["low"] == 0
    assert rows["equal"]["lead"]["high"] < 0.1
    assert rows["best"]["lead"] is None
    assert rows["best"]["folds"] == [1.0, 1 / 20]


def test_folds_are_told_in_order():
    assert by_fold(np.array([1.0, 0.0, 1.0, 1.0]), [1, 0, 1, 0]) == [0.5, 1.0]
