from __future__ import annotations

import itertools
import math

import pytest
import torch
from judgements import example

from ops.settings import RewardSettings
from trainer.ballots import Ballots, flagged_texts
from trainer.likelihood import Likelihood, binary_nats, heard, rao_kupper
from trainer.rankings import davidson_luce

SETTINGS = RewardSettings(thumb_weight=0.5, rank_weight=1.0, flag_weight=1.0, score_penalty=0.0)
A, B, C = math.log(4.0), math.log(2.0), 0.0
"""Scores whose exponentials are 4, 2 and 1."""


def nats(examples, scores: list[float], likelihood: Likelihood | None = None, flagged=frozenset()) -> list[float]:
    ballots = Ballots.of(examples, flagged=flagged)
    return ballots.nats(torch.tensor(scores)[:, None], likelihood or Likelihood(), SETTINGS)[:, 0].tolist()


def plain() -> Likelihood:
    """Slope 1, offsets 0, and each outcome of two equal answers a third."""
    likelihood = Likelihood()
    likelihood.raw_width.data.fill_(math.log(math.expm1(math.log(2) - 1e-3)))
    return likelihood


def test_the_three_outcomes_of_a_pair_are_all_there_is():
    deltas = torch.tensor([-6.0, -1.0, 0.0, 0.3, 4.0])
    for width in (0.01, 0.5, 2.0):
        assert rao_kupper(deltas, torch.tensor(width)).exp().sum(-1) == pytest.approx(torch.ones(5), abs=1e-5)


def test_equal_answers_and_a_width_of_ln_2_make_each_outcome_a_third():
    probabilities = rao_kupper(torch.tensor(0.0), torch.tensor(math.log(2))).exp()
    assert probabilities.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_the_side_with_the_higher_score_wins_more_often():
    a, tie, b = rao_kupper(torch.tensor(1.0), torch.tensor(0.5)).exp().tolist()
    assert a == pytest.approx(1 / (1 + math.exp(-0.5)))
    assert b == pytest.approx(1 / (1 + math.exp(1.5)))
    assert tie == pytest.approx(1 - a - b)


@pytest.mark.parametrize("label", ["both_bad", "both_good"])
def test_both_bad_and_both_good_are_a_tie_and_two_thumbs_of_half_a_thumbs_weight(label):
    tie = nats([example(1, ("x", "y"), "tie")], [0.7, -0.2], plain())[0]
    both = nats([example(1, ("x", "y"), label)], [0.7, -0.2], plain())[0]
    sign = 1 if label == "both_bad" else -1
    slope = math.log1p(math.exp(0.5413))  # 1 to four digits
    thumbs = sum(math.log1p(math.exp(sign * slope * score)) for score in (0.7, -0.2))
    assert both - tie == pytest.approx(0.5 * 0.5 * thumbs, rel=1e-4)


def test_a_thumb_up_is_the_likelier_the_higher_the_score():
    low, high = nats([example(1, ("x",), "up"), example(2, ("x",), "up")], [0.0, 2.0])
    assert low == pytest.approx(0.5 * math.log(2))
    assert high == pytest.approx(0.5 * math.log1p(math.exp(-2)), rel=1e-3)


def test_a_rater_with_an_offset_is_read_with_it():
    ballots = Ballots.of([example(1, ("x",), "up", "mild"), example(2, ("x",), "up", "else")], raters={"mild": 0})
    costs = ballots.nats(torch.zeros(2, 1), Likelihood(), SETTINGS, torch.tensor([2.0, 0.0]))
    assert costs[:, 0].tolist() == pytest.approx([0.5 * math.log1p(math.exp(-2)), 0.5 * math.log(2)])


def test_what_is_heard_of_a_rater_who_flips_one_vote_in_ten():
    said = heard(torch.tensor(0.8).log(), torch.tensor(0.2).log(), torch.tensor(0.1))
    assert said.exp().item() == pytest.approx(0.9 * 0.8 + 0.1 * 0.2)
    assert binary_nats(torch.tensor(0.0), torch.tensor(1.0), torch.tensor(0.0)).item() == pytest.approx(math.log(2))
    half = binary_nats(torch.tensor(9.0), torch.tensor(0.0), torch.tensor(0.5))  # says nothing, whatever the score
    assert half.item() == pytest.approx(math.log(2))


def test_the_opposite_of_a_tie_is_a_tie_and_of_a_win_a_loss():
    sides = {label: nats([example(1, ("x", "y"), label)], [1.0, 0.0], plain())[0] for label in ("a", "tie", "b")}
    noisy = {label: nats([example(1, ("x", "y"), label, flip=0.25)], [1.0, 0.0], plain())[0] for label in ("a", "tie", "b")}
    assert noisy["tie"] == pytest.approx(sides["tie"])
    assert math.exp(-noisy["a"]) == pytest.approx(0.75 * math.exp(-sides["a"]) + 0.25 * math.exp(-sides["b"]))
    assert sum(math.exp(-cost) for cost in noisy.values()) == pytest.approx(1, abs=1e-5)


def test_a_correction_is_a_pair_in_which_no_side_came_first():
    likelihood = plain()
    likelihood.position.data.fill_(3.0)
    correction, shown = example(1, ("new", "old"), "a", side_by_side=False), example(2, ("new", "old"), "a")
    assert nats([correction], [0.0, 0.0], likelihood)[0] == pytest.approx(math.log(3), rel=1e-3)
    assert nats([shown], [0.0, 0.0], likelihood)[0] < 0.3


def test_without_ties_a_ranking_is_plackett_and_luces():
    # 4 of 7, then 2 of the 3 that are left
    found = davidson_luce(torch.tensor([[C], [A], [B]]), (3, 1, 2), torch.tensor(-50.0))
    assert found.exp().item() == pytest.approx(4 / 7 * 2 / 3)


def test_two_that_share_a_rank_are_davidsons_tie():
    # 4, 1, and half of sqrt(4 * 1)
    tie = davidson_luce(torch.tensor([[A], [C]]), (1, 1), torch.tensor(0.5).log())
    assert tie.exp().item() == pytest.approx(1 / (4 + 1 + 1))


def test_a_tie_of_two_before_a_third_by_hand():
    # of 4, 2, 1 alone, their pairs' geometric means √8, 2, √2 times δ = 1/2, and all three's 2 times δ² = 1/4; then one is left
    chosen = math.sqrt(8) / 2
    all_choices = 4 + 2 + 1 + (math.sqrt(8) + 2 + math.sqrt(2)) / 2 + 2 / 4
    found = davidson_luce(torch.tensor([[A], [B], [C]]), (1, 1, 2), torch.tensor(0.5).log())
    assert found.exp().item() == pytest.approx(chosen / all_choices)


def test_all_rankings_with_all_their_ties_are_all_there_is():
    scores = torch.tensor([[0.3], [-1.2], [2.0], [0.1]])
    rankings = [r for r in itertools.product(range(1, 5), repeat=4) if set(r) == set(range(1, max(r) + 1))]
    total = sum(davidson_luce(scores, ranks, torch.tensor(-0.7)).exp().item() for ranks in rankings)
    assert len(rankings) == 75
    assert total == pytest.approx(1, abs=1e-5)


def test_a_long_ranking_has_finite_gradients():
    scores = torch.linspace(-20, 20, 16)[:, None].requires_grad_()
    davidson_luce(scores, tuple(range(16, 0, -1)), torch.tensor(-30.0)).sum().backward()
    assert scores.grad.isfinite().all()


def test_a_figure_between_0_and_1_pulls_the_score_to_where_it_is_expected():
    likelihood = Likelihood()
    likelihood.know(["resolved"])
    scored = example(1, ("x",), "scored", metric="resolved", value=0.75)
    costs = [nats([scored], [score], likelihood)[0] for score in (0.5, math.log(3), 2.0)]
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert costs[1] == pytest.approx(0.5 * entropy, rel=1e-4)  # σ(ln 3) is 0.75
    assert min(costs) == costs[1]


def test_each_metric_has_a_slope_and_an_offset_of_its_own():
    likelihood = Likelihood()
    likelihood.know(["kept", "resolved"])
    likelihood.figures["metric:kept"].data[1] = 5.0
    assert likelihood.figure("resolved", torch.tensor(0.0)).item() == 0
    assert likelihood.figure("kept", torch.tensor(0.0)).item() == 5


@pytest.mark.parametrize("metric", ["type", "keys", "training", "half"])
def test_a_metric_may_have_a_name_that_pytorch_has_given_to_something(metric):
    likelihood, other = Likelihood(), Likelihood()
    likelihood.know([metric])
    other.know(likelihood.metrics_in(likelihood.state_dict(), ""))
    other.load_state_dict(likelihood.state_dict())
    assert other.metrics == {metric}
    assert other.figure(metric, torch.tensor(0.0)).item() == 0


def test_the_rarer_flags_are_the_lower_a_flagged_answer_has_to_score():
    flagged, fine = example(1, ("vile",), "flagged"), example(2, ("fine",), "up")
    texts = flagged_texts([flagged, fine])
    rare = Likelihood()
    rare.flag_offset.data.fill_(-4.0)  # one in 55
    assert nats([flagged], [0.0], rare, texts)[0] == pytest.approx(math.log1p(math.exp(4)))
    assert nats([flagged], [-8.0], rare, texts)[0] < 0.02
    silence = nats([fine], [0.0], rare, texts)[0] - nats([fine], [0.0], rare)[0]
    assert silence == pytest.approx(math.log1p(math.exp(-4)), rel=1e-3)  # nobody's flag is a weak word for an answer


def test_a_vote_on_a_flagged_text_is_no_word_for_it():
    flagged, liked = example(1, ("vile",), "flagged"), example(1, ("vile",), "up")
    assert nats([liked], [0.0], flagged=flagged_texts([flagged])) == nats([liked], [0.0])


def test_no_nuisance_moves_far_on_few_votes():
    likelihood = Likelihood()
    likelihood.know(["resolved"])
    assert likelihood.prior().item() == 0
    likelihood.position.data.fill_(2.0)
    likelihood.figures["metric:resolved"].data[1] = 1.0
    assert likelihood.prior().item() == pytest.approx(2.0 + 0.5)
