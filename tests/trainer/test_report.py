from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from judgements import BAD, GOOD, example, taste

from feedback.raters.population import Population
from ops.settings import RewardSettings
from trainer.baselines import baseline, majority_margins, tfidf_margins
from trainer.measures import Measures, length_bias, measures
from trainer.report import Later, margins_of, report
from trainer.reward import RewardModel

FAST = RewardSettings(learning_rate=1e-2, epochs=1)


def test_the_figures_of_four_votes_by_hand():
    # foretold a, a, b, b; heard a, b, b, a
    found = measures([2.0, 1.0, -1.0, -3.0], [0.9, 0.8, 0.2, 0.1], [1, -1, -1, 1])
    assert (found.accuracy, found.precision, found.recall, found.f1) == (0.5, 0.5, 0.5, 0.5)
    assert found.auc == 0.5  # of the 2 x 2 pairs of an "a" and a "b": 2 over 1 and over -1, and -3 under both
    assert found.nll == pytest.approx(-(math.log(0.9) + math.log(0.2) + math.log(0.8) + math.log(0.1)) / 4)


def test_the_calibration_error_by_hand():
    # four votes in [0.2, 0.3) of which one came, four in [0.9, 1) of which all came
    found = measures([-1.0] * 4 + [1.0] * 4, [0.25] * 4 + [0.95] * 4, [1, -1, -1, -1, 1, 1, 1, 1])
    assert [(b.n, b.share) for b in found.reliability] == [(4, 0.25), (4, 1.0)]
    assert found.ece == pytest.approx(0.5 * 0 + 0.5 * 0.05)
    noise = math.sqrt(2 / math.pi) * (math.sqrt(0.25 * 0.75 / 4) + math.sqrt(0.95 * 0.05 / 4)) / 2
    assert found.ece_noise == pytest.approx(noise)
    variance = (1 - 2 / math.pi) * (0.25 * 0.75 / 4 + 0.95 * 0.05 / 4)
    assert found.ece_error == pytest.approx(math.sqrt(variance) / 2)


def test_without_votes_or_with_one_class_only_what_cannot_be_counted_is_none():
    assert measures([], [], []) == Measures()
    assert measures([1.0, 2.0], [0.7, 0.8], [1, 1]).auc is None
    assert measures([0.0], [0.5], [1]).accuracy == 0.5


def test_a_model_that_expects_what_people_say_has_their_liking_for_length():
    lengths, signs = [10.0, 10.0, -10.0, -10.0] * 5, [1, -1, -1, -1] * 5
    found = length_bias(lengths, lengths, [0.5, 0.5, 0.0, 0.0] * 5, signs)
    # of longer first answers half are liked, of shorter ones none
    assert found.label == pytest.approx(1 / math.sqrt(3))
    assert found.expected == pytest.approx(found.label)
    assert found.score == pytest.approx(1.0)
    assert length_bias([1.0, 1.0], [1.0, 2.0], [0.5, 0.6], [1, -1]).label is None


def test_the_majority_says_what_most_votes_of_a_kind_said():
    learnt = [example(1, ("x", "y"), "b"), example(2, ("x", "y"), "b"), example(3, ("x", "y"), "a"), example(4, ("x",), "up")]
    tested = [example(5, ("x", "y"), "a"), example(6, ("x", "y"), "b"), example(7, ("x", "y"), "b"), example(8, ("x",), "down")]
    margins = majority_margins(learnt, tested)
    assert baseline(margins, tested).accuracy == 0.5  # right on the two "b" of four
    assert margins[0] == pytest.approx(math.log(2 / 3))  # one "a" and two "b", and one more of each
    assert baseline(majority_margins([], tested[:1]), tested[:1]).accuracy == 0.5


def test_the_word_baseline_reads_words_and_not_the_side_they_stand_on():
    tested = taste(20, seed=3)
    learnt = [example(n, (GOOD[n % 3], BAD[n % 3]), "a") for n in range(9)]
    assert baseline(tfidf_margins(learnt, tested), tested).accuracy == 0.5  # one class: it knows nothing
    mixed = [*learnt, example(9, ("ugh",), "down")]
    assert baseline(tfidf_margins(mixed, tested), tested).accuracy == 1.0


def test_without_votes_there_is_nothing_to_learn_and_nothing_to_report(tiny):
    reward = RewardModel(tiny, "reward")
    assert reward.fit([], FAST, seed=0) == []
    figures = report(reward, [], [])
    assert (figures.n, figures.accuracy, figures.majority, figures.nll) == (0, None, None, None)
    json.dumps(figures.to_json())


def test_a_report_has_every_figure_beside_both_baselines(tiny):
    reward = RewardModel(tiny, "reward")
    learnt, held_out = taste(32, seed=1), [*taste(24, seed=2), example(1, GOOD, "ranked", ranks=(1, 2, 2))]
    reward.fit(learnt, FAST, seed=0)
    golden = [example(2, (GOOD[0], BAD[0]), "a"), example(3, (GOOD[1],), "up")]
    figures = json.loads(json.dumps(report(reward, learnt, held_out, golden).to_json()))
    of_all = {"accuracy", "precision", "recall", "f1", "auc", "nll", "ece", "ece_noise", "ece_error", "reliability"}
    assert set(figures["measures"]) == set(figures["baselines"]["tfidf"]) == set(figures["baselines"]["majority"]) == of_all
    assert (figures["n"], figures["nll_n"]) == (24, 25)
    assert figures["accuracy"] == figures["measures"]["accuracy"] >= 0.9
    assert figures["tfidf"] == figures["baselines"]["tfidf"]["accuracy"]
    assert figures["length"]["n"] == 18  # the pairs
    assert {name: own["n"] for name, own in figures["baseline_lengths"].items()} == {"majority": 18, "tfidf": 18}
    assert figures["baseline_lengths"]["tfidf"]["label"] == figures["length"]["label"]
    assert figures["baseline_lengths"]["majority"]["score"] is None  # it always says the same
    assert -1 <= figures["baseline_lengths"]["tfidf"]["score"] <= 1
    assert figures["golden"] == {"n": 2, "value": 1.0}
    assert sum(b["n"] for b in figures["measures"]["reliability"]) == 24


def test_what_came_since_is_foretold_by_the_model_before_and_by_the_model_now(tiny):
    reward = RewardModel(tiny, "reward")
    held_out = taste(24, seed=2)
    before = margins_of(reward, held_out[-4:])  # it knows nothing
    reward.fit(taste(32, seed=1), FAST, seed=0)
    assert report(reward, [], held_out, before=before).later == Later(4, 0.5, 1.0, 0.5, 0.5)
    assert report(reward, [], held_out).later == Later()


def test_who_only_reads_words_foretells_later_votes_from_older_ones(tiny):
    reward, held_out = RewardModel(tiny, "reward"), taste(24, seed=2)
    before = margins_of(reward, held_out[-4:])
    learnt = taste(32, seed=1)
    assert report(reward, learnt, held_out, before=before, older=learnt).later.tfidf == 1.0
    assert report(reward, learnt, held_out, before=before, older=[]).later.tfidf == 0.5


def test_whom_another_model_has_found_out_is_not_held_against_this_one(tiny):
    reward = RewardModel(tiny, "reward")
    reward.fit(taste(32, seed=1), FAST, seed=0)
    honest = [replace(each, rater="honest") for each in taste(24, seed=2)]
    reversed_ = [example(900 + n, (GOOD[n % 3], BAD[n % 3]), "b", rater="reversed") for n in range(24)]
    people = Population(flips={"honest": 0.25, "reversed": 0.9}, doubts={}, mean=0.2)
    alone, among, told = (
        report(reward, [], honest),
        report(reward, [], [*honest, *reversed_]),
        report(reward, [], [*honest, *reversed_], people=people),
    )
    assert (alone.n, among.n, told.n) == (24, 48, 24)
    assert told.accuracy == alone.accuracy > 0.9
    assert among.accuracy < 0.6
    assert (told.nll, told.nll_by_kind) == (among.nll, among.nll_by_kind)  # of all that is said, as before


def test_each_is_expected_to_err_as_often_as_they_do(tiny):
    reward = RewardModel(tiny, "reward")
    vote = example(1, (GOOD[0], BAD[0]), "a")
    lead = torch.tensor([9.0, -9.0])
    assert reward.expected(vote, lead, 0.25) == pytest.approx(0.75, abs=1e-4)
    stranger = float(reward.likelihood.flip)
    assert reward.expected(vote, lead) == pytest.approx(1 - stranger, abs=1e-4)
    reward.fit(taste(32, seed=1), FAST, seed=0)
    pairs = [replace(each, rater="r") for each in taste(24, seed=2) if each.is_pair]
    calm, wild = (report(reward, [], pairs, people=Population({"r": flip}, {}, 0.1)) for flip in (0.0, 0.5))
    assert calm.measures.nll < wild.measures.nll == pytest.approx(math.log(2), abs=1e-6)


def test_a_figure_that_was_never_learnt_is_not_reported_on(tiny):
    reward = RewardModel(tiny, "reward")
    reward.fit(taste(8, seed=1), FAST, seed=0)
    assert report(reward, [], [example(1, ("x",), "scored", metric="new", value=1.0)]).nll_n == 0
