from __future__ import annotations

from math import sqrt

import pytest

from trainer.drift import FEWEST, Drift, drift_of
from trainer.spread import Spread

PAIRS, THUMBS = Spread(100, 0.6, 0.25), Spread(50, 0.3, 0.16)


def test_new_votes_are_held_against_those_of_their_kind():
    drift = drift_of({"reward pair": PAIRS, "reward thumb": THUMBS}, {"reward pair": [0.7] * 25, "reward thumb": [0.4] * 75})
    assert (drift.n, drift.nll, drift.expected) == (100, pytest.approx(0.475), pytest.approx(0.375))
    # (1/4)^2 * 0.25 * (1/25 + 1/100) + (3/4)^2 * 0.16 * (1/75 + 1/50)
    assert drift.error == pytest.approx(sqrt(0.00078125 + 0.003))


def test_more_votes_of_a_kind_that_leaves_more_open_are_no_drift():
    then = {"reward pair": PAIRS, "reward thumb": THUMBS}
    drift = drift_of(then, {"reward pair": [0.6] * 1000, "reward thumb": [0.3]})
    assert drift.nll == pytest.approx(drift.expected)
    assert not drift.above(0.0)


def test_kinds_of_which_nothing_was_known_are_left_out():
    few = Spread(FEWEST - 1, 0.1, 0.1)
    drift = drift_of({"reward pair": PAIRS, "judge pair": few}, {"reward pair": [0.6], "judge pair": [9.0], "judge thumb": [9.0]})
    assert (drift.n, drift.nll) == (1, pytest.approx(0.6))
    assert drift_of({"reward pair": few}, {"reward pair": [9.0]}) == Drift()
    assert drift_of({"reward pair": PAIRS}, {"reward pair": []}) == Drift()


@pytest.mark.parametrize(
    ("nll", "error", "above"),
    [
        (0.66, 0.015, True),  # a tenth more, four standard errors
        (0.66, 0.03, False),  # two: chance does that
        (0.62, 0.001, False),  # beyond chance, but 3 % only
    ],
)
def test_a_rise_counts_above_its_share_and_above_chance(nll, error, above):
    assert Drift(100, nll, 0.6, error).above(0.05) is above


def test_one_surprise_where_all_was_easy_is_no_drift():
    easy = {"reward pair": Spread(50, 0.02, 0.0004)}
    once = drift_of(easy, {"reward pair": [0.02] * 24 + [4.0]})
    assert once.nll == pytest.approx(0.1792)
    assert not once.above(0.05)
    assert drift_of(easy, {"reward pair": [0.02] * 15 + [4.0] * 10}).above(0.05)


def test_nothing_measured_is_no_drift():
    assert not Drift().above(0.0)


def test_the_spread_of_votes_is_theirs_and_not_their_mean_s():
    assert Spread.of([1.0, 3.0]) == Spread(2, 2.0, 2.0)
    assert Spread.of([1.0]) == Spread(1, 1.0, 0.0)
