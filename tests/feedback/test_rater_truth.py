"""Who errs how often, and what is so: learnt together."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from rater_votes import pair, thumb

from feedback.raters.consensus import Labelled, consensus
from feedback.raters.flips import FlipPrior, Said, flip_probabilities, said_of
from feedback.raters.golden import golden_truths
from feedback.raters.labels import labels_of

# table 1 of Dawid & Skene 1979: 45 patients, each put into one of 4 classes by five anaesthetists, by the first three times
ANAESTHETISTS = (
    "111 1 1 1 1|333 4 3 3 4|112 2 1 2 2|222 3 1 2 1|222 3 2 2 2|222 3 3 2 2|122 2 1 1 1|333 3 4 3 3|222 2 2 2 3|"
    "232 2 2 2 3|444 4 4 4 4|222 3 3 4 3|111 1 1 1 1|222 3 2 1 2|121 1 1 1 1|111 2 1 1 1|111 1 1 1 1|111 1 1 1 1|"
    "222 2 2 2 1|222 1 3 2 2|222 2 2 2 2|222 2 2 2 1|222 3 2 2 2|221 2 2 2 2|111 1 1 1 1|111 1 1 1 1|232 2 2 2 2|"
    "111 1 1 1 1|111 1 1 1 1|112 1 1 2 1|111 1 1 1 1|333 3 2 3 3|111 1 1 1 1|222 2 2 2 2|222 3 2 3 2|433 4 3 4 3|"
    "221 2 2 3 2|232 3 2 3 3|333 3 4 3 2|111 1 1 1 1|111 1 1 1 1|121 2 1 1 1|232 2 2 2 2|121 1 1 1 1|222 2 2 2 2"
)
PATIENTS = [
    Labelled(patient, f"observer {observer}", int(label))
    for patient, row in enumerate(ANAESTHETISTS.split("|"), 1)
    for observer, labels in enumerate(row.split(), 1)
    for label in labels
]


def test_the_consensus_on_the_anaesthetists_patients_is_dawids_and_skenes():
    found = consensus(PATIENTS)
    assert found.prior == pytest.approx([0.40, 0.42, 0.11, 0.07], abs=0.005)  # table 2
    first = [[0.89, 0.11, 0, 0], [0.07, 0.88, 0.05, 0], [0, 0.34, 0.66, 0], [0, 0, 0.56, 0.44]]
    assert found.confusion[0] == pytest.approx(np.array(first), abs=0.005)
    # by votes patient 2 is of class 3 (five of seven), but those who see classes 3 and 4 best said 4
    assert found.label(2) == (4, pytest.approx(1.0, abs=0.005))
    assert found.label(11) == (4, pytest.approx(1.0))
    with pytest.raises(KeyError):
        found.label(46)


def test_no_round_of_the_consensus_makes_the_labels_less_likely():
    likelihoods = [consensus(PATIENTS, most=rounds).log_likelihood for rounds in range(1, 40)]
    assert all(after >= before - 1e-9 for before, after in pairwise(likelihoods))
    assert likelihoods[-1] > likelihoods[0] + 10


def test_a_rater_who_always_says_the_opposite_is_as_good_as_one_who_is_always_right():
    said = {"ann": "aabbaabb", "bob": "aabbaabb", "eve": "bbaabbaa", "noise": "abababab"}
    labels = [Labelled(item, rater, label) for rater, row in said.items() for item, label in enumerate(row)]
    found = consensus(labels, "ab", smoothing=0.1)
    assert "".join(found.label(item)[0] for item in range(8)) == "aabbaabb"
    confusion = dict(zip(found.raters, found.confusion, strict=True))
    assert confusion["eve"][0, 1] > 0.9  # says b where a is so
    assert confusion["noise"] == pytest.approx(np.full((2, 2), 0.5))


def test_a_label_that_is_no_class_is_refused_by_name():
    with pytest.raises(ValueError, match=r"label 'c' of 'x': use one of 'a', 'b'"):
        consensus([Labelled("x", "ann", "c")], "ab")
    assert consensus([], "ab").items == ()


def test_one_round_on_a_golden_item_is_as_by_hand():
    # prior Beta(1, 9): right on 1 of 1 golden item (1 + 0) / (10 + 1), wrong (1 + 1) / (10 + 1)
    said = [Said("right", "gold", True), Said("wrong", "gold", False), Said("silent", "unknown", True)]
    flips = flip_probabilities(said, {"gold": 1.0})
    assert flips.of("right") == pytest.approx(1 / 11)
    assert flips.of("wrong") == pytest.approx(2 / 11)
    assert flips.of("silent") == flips.of("nobody") == pytest.approx(0.1)  # alone with an item nobody knows
    assert flips.truth["gold"] == pytest.approx(1.0)


def test_three_agreeing_against_one_is_as_by_hand_after_a_round():
    # log-odds of three against one at epsilon 0.1 are 2 ln 9, so P = 81/82; the one is wrong with 81/82, the three with 1/82
    said = [Said(rater, "item", rater != "odd") for rater in ("a", "b", "c", "odd")]
    flips = flip_probabilities(said, most=1)
    assert flips.truth["item"] == pytest.approx(81 / 82)
    assert flips.of("a") == pytest.approx((1 + 1 / 82) / 11)
    assert flips.of("odd") == pytest.approx((1 + 81 / 82) / 11)


def test_adversaries_are_found_among_honest_raters_and_the_truth_with_them():
    rng = random.Random(5)
    truth = [rng.random() < 0.5 for _ in range(150)]
    true = {f"honest {n}": 0.1 for n in range(12)} | {f"reversed {n}": 0.9 for n in range(3)}
    said = [
        Said(rater, item, z != (rng.random() < epsilon))
        for item, z in enumerate(truth)
        for rater, epsilon in rng.sample(sorted(true.items()), 5)
    ]
    flips = flip_probabilities(said, prior=FlipPrior(0.1, 10))
    assert sum((flips.truth[item] > 0.5) == z for item, z in enumerate(truth)) >= 148
    judged = Counter(s.rater for s in said)
    for rater, epsilon in true.items():  # drawn towards the prior's mean by its ten items
        assert flips.of(rater) == pytest.approx((1 + epsilon * judged[rater]) / (10 + judged[rater]), abs=0.12), rater
    assert max(flips.of(r) for r in true if r < "i") < 0.3 < 0.6 < min(flips.of(r) for r in true if r > "i")


def test_a_model_that_foretells_the_truth_tells_who_flips_where_nobody_overlaps():
    said = [Said("ann", n, True) for n in range(20)] + [Said("eve", 100 + n, False) for n in range(20)]
    foretold = {s.item: 0.9 for s in said}
    flips = flip_probabilities(said, foretold)
    assert flips.of("ann") < 0.1 < 0.5 < flips.of("eve")


def test_what_is_said_of_votes_leaves_out_ties_scores_and_golden_truths():
    votes = [pair("x", "y", "a"), pair("x", "z", "tie"), thumb("x", -1), thumb("y", 1, source="golden")]
    said = said_of(labels_of(votes))
    assert [(s.item.kind, s.first) for s in said] == [("preference", True), ("rating", False)]
    assert golden_truths(labels_of(votes)) == {labels_of(votes)[3].item: 1.0}
