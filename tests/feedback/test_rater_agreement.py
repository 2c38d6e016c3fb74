from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rater_votes import pair, score, thumb
from sklearn.metrics import cohen_kappa_score

from feedback.raters.agreement import alpha
from feedback.raters.kappa import cohen_kappa, majorities, with_majority
from feedback.raters.labels import labels_of, units_of


def units(*raters: str) -> list[list[float]]:
    """One string for each rater, a digit for each unit; * is a value that is missing."""
    return [[float(value) for value in unit if value != "*"] for unit in zip(*raters, strict=True)]


# section "C. Nominal data, any number of observers, missing data" of Krippendorff 2011; the ordinal and interval figures are
# those of its sections D and E for the same data
FOUR_OBSERVERS = units("123321412***", "1233224125*3", "*3332342251*", "1233244125 1*".replace(" ", ""))
# the computational example of the article on alpha in Wikipedia, after Krippendorff 2004
THREE_CODERS = units("*****3412113 3*3".replace(" ", ""), "1*213343*******", "**21344*2113 3*4".replace(" ", ""))


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_krippendorffs_own_for_four_observers_with_missing_values(level, published):
    assert alpha(FOUR_OBSERVERS, level) == pytest.approx(published, abs=5e-4)


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.691), ("interval", 0.811)])
def test_alpha_is_the_published_one_for_three_coders(level, published):
    assert alpha(THREE_CODERS, level) == pytest.approx(published, abs=5e-4)


def test_alpha_of_a_small_table_is_as_by_hand():
    # units 11, 12, 22: coincidences o11 = 2, o12 = o21 = 1, o22 = 2, n = 6, n1 = n2 = 3
    # observed 2/6, expected (3*3 + 3*3) / (6*5) = 18/30
    assert alpha([[1, 1], [1, 2], [2, 2]]) == pytest.approx(1 - (2 / 6) / (18 / 30))


def test_alpha_is_one_for_full_agreement_negative_for_systematic_disagreement_and_none_where_nothing_differs():
    assert alpha([[1, 1], [2, 2], [3, 3]], "interval") == 1
    assert alpha([[1, 2], [2, 1]]) == pytest.approx(-0.5)  # observed 1, expected 8/12
    assert alpha([[1, 1], [1, 1]]) is None
    assert alpha([[1], [2], []]) is None


@given(st.lists(st.lists(st.integers(0, 4), max_size=4), max_size=8), st.randoms())
def test_alpha_does_not_depend_on_the_order_of_units_or_raters(table, rng):
    mixed = [rng.sample(unit, len(unit)) for unit in rng.sample(table, len(table))]
    for level in ("nominal", "ordinal", "interval"):
        assert alpha(mixed, level) == pytest.approx(alpha(table, level))


def test_raters_who_saw_a_pair_in_other_orders_judge_one_item():
    same = [pair("x", "y", "a", "r"), pair("y", "x", "b", "s")]
    assert units_of(labels_of(same)) == [[1.0, 1.0]]
    assert units_of(labels_of([*same, pair("x", "y", "both_bad", "t")])) == [[1.0, 1.0, 0.0]]
    assert labels_of([pair("x", "x", "a")]) == []


def test_a_rater_counts_once_for_an_item_with_the_last_word():
    assert units_of(labels_of([thumb("x", 1, "r"), thumb("x", 1, "s"), thumb("x", -1, "r")])) == [[-1.0, 1.0]]


def test_scores_of_one_metric_are_items_and_keep_their_figures():
    assert units_of(labels_of([score("x", 0.5, "r"), score("x", 0.75, "s")])) == [[0.5, 0.75]]


def test_kappa_of_a_small_table_is_as_by_hand():
    # yes/yes 20, yes/no 5, no/yes 10, no/no 15 of 50: observed 0.7, expected 0.5*0.6 + 0.5*0.4 = 0.5
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40))
def test_kappa_is_that_of_scikit_learn(pairs):
    first, second = zip(*pairs, strict=True)
    if len(set(first)) == 1 and set(first) == set(second):
        assert cohen_kappa(first, second) is None
    else:
        assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_the_majority_is_that_of_the_others_and_needs_two_who_are_not_divided():
    labels = labels_of([thumb("x", value, rater) for rater, value in (("r", -1), ("s", 1), ("t", 1))])
    others = majorities(labels)
    assert {rater: value for (_, rater), value in others.items()} == {"r": 1.0}  # s and t see one of each
    assert majorities(labels[:2]) == {}
    mine = with_majority([label for label in labels if label.rater == "r"], others)
    assert (mine.agreed.hits, mine.agreed.n) == (0, 1)


def test_newcomers_do_not_outvote_those_who_are_known():
    labels = labels_of([thumb("x", value, rater) for rater, value in (("r", 1), ("s", 1), ("n1", -1), ("n2", -1), ("n3", -1))])
    trust = {"n1": 0.1, "n2": 0.1, "n3": 0.1}
    assert [value for (_, rater), value in majorities(labels).items() if rater == "r"] == [-1.0]
    assert [value for (_, rater), value in majorities(labels, trust).items() if rater == "r"] == [1.0]
