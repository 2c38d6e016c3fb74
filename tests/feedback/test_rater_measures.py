from __future__ import annotations

import pytest
from rater_votes import completion, pair, thumb, vote
from scipy.stats import binomtest

from feedback.events import Preference
from feedback.raters.bias import length_bias, position_bias
from feedback.raters.contradiction import contradictions
from feedback.raters.labels import labels_of
from feedback.raters.share import Share
from feedback.raters.timing import decision_times


def test_a_shares_interval_and_test_are_scipys():
    exact = binomtest(14, 20)
    low, high = exact.proportion_ci(method="wilson")
    assert Share(14, 20).interval() == pytest.approx((low, high))
    assert Share(14, 20).p_even() == pytest.approx(exact.pvalue)  # 0.115
    assert Share(0, 5).p_even() == pytest.approx(2 / 32)
    assert Share(3, 6).p_even() == 1.0
    assert (Share().value, Share().interval(), Share().p_even()) == (None, (0.0, 1.0), 1.0)


def test_decision_times_have_quantiles_and_what_is_out_of_reason():
    times = decision_times([500.0, None, 2_000.0, 3_000.0, 4_000.0, 700_000.0])
    assert (times.median_ms, times.p10_ms) == (3_000.0, pytest.approx(1_100.0))  # 0.4 of the way from 500 to 2 000
    assert times.p90_ms == pytest.approx(421_600.0)  # 0.6 of the way from 4 000 to 700 000
    assert (times.too_fast, times.too_slow) == (Share(1, 5), Share(1, 5))
    assert decision_times([None]).median_ms is None


def test_position_bias_is_the_share_of_the_side_shown_first_among_decided_pairs():
    votes = [pair("x", "y", value) for value in ("a", "a", "a", "b", "tie", "both_good")]
    assert position_bias([*votes, thumb("x", 1)]) == Share(3, 4)


def test_length_bias_is_the_share_of_the_longer_answer_where_one_is_longer():
    votes = [pair("long answer", "short", "a"), pair("short", "long answer", "b"), pair("long answer", "short", "b")]
    assert length_bias([*votes, pair("same!", "equal", "a"), pair("long answer", "short", "tie")]) == Share(2, 3)


def test_length_is_in_tokens_where_they_were_counted_so_that_erased_texts_count_too():
    erased = [completion("", tokens=9), completion("", tokens=4)]
    assert length_bias([vote(Preference(value="a"), *erased)]) == Share(1, 1)


def test_an_item_judged_otherwise_again_is_a_contradiction_whichever_side_it_was_on():
    votes = [pair("x", "y", "a"), pair("y", "x", "b"), pair("x", "y", "b"), thumb("z", 1), thumb("z", 1)]
    assert contradictions(labels_of(votes)).repeated == Share(1, 3)


def test_preferences_in_a_circle_are_contradictions_and_those_beside_it_are_not():
    circle = [pair("x", "y", "a"), pair("y", "z", "a"), pair("z", "x", "a")]
    found = contradictions(labels_of([*circle, pair("x", "w", "a"), pair("w", "v", "a")]))
    assert found.cyclic == Share(3, 5)
    assert contradictions(labels_of(circle[:2])).cyclic == Share(0, 2)
    assert found.total == 3


def test_preferring_what_was_disliked_to_what_was_liked_is_a_contradiction():
    rated = [thumb("x", 1), thumb("y", -1), thumb("z", 1)]
    found = contradictions(labels_of([*rated, pair("x", "y", "b"), pair("y", "z", "b"), pair("x", "z", "a")]))
    assert found.rated == Share(1, 2)  # x and z are both liked: nothing to contradict
    assert contradictions([]).total == 0
