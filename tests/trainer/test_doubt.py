"""Synthetic people whose taste is linear in what is read: what they are like has to be found out from their votes alone."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch
from judgements import example
from rater_votes import pair

from feedback.raters.population import Population, population
from ops.settings import RewardSettings
from trainer.ballots import Ballots
from trainer.doubt import Heard, asking, doubted, settled, surprise_of
from trainer.examples import unit_interval
from trainer.frozen import FORM
from trainer.heads import Heads
from trainer.likelihood import Likelihood, rao_kupper
from trainer.linear import solve
from trainer.strength import Prior, prior

SETTINGS = RewardSettings(score_penalty=0.0)
SIZE = 6
TASTE = torch.tensor([1.2, -0.8, 0.5, 0.0, 0.0, 0.3, 0.4, 0.0, -0.6, 0.0])
"""What each of the readings is worth: `SIZE` coordinates of a state and four surprises."""


def people(votes: int, raters: int, liars: int = 0, position: float = 0.0, width: float = 0.4, seed: int = 0, sure: float = 1.0):
    """Pairs and, one in four, thumbs, with the readings of their answers; liars say the opposite of what they think."""
    rng, random_numbers = random.Random(seed), torch.Generator().manual_seed(seed)
    made, readings = [], torch.randn(2 * votes, SIZE + 4, generator=random_numbers)
    scores, kept = readings @ TASTE * sure, []
    for number in range(votes):
        rater, a, b = number % raters, 2 * number, 2 * number + 1
        lies = rater < liars
        if number % 4 == 0:
            up = rng.random() < 1 / (1 + math.exp(-scores[a].item()))
            made.append(example(number, ("x",), "up" if up != lies else "down", f"r{rater}"))
            kept.append(a)
        else:
            chances = rao_kupper(scores[a] - scores[b] + position, torch.tensor(width)).exp().tolist()
            label = rng.choices(("a", "tie", "b"), chances)[0]
            label = {"a": "b", "b": "a", "tie": "tie"}[label] if lies else label
            made.append(example(number, ("x", "y"), label, f"r{rater}"))
            kept += [a, b]
    return made, readings[kept]


def ask_of(examples):
    """As `flips_of` for votes without overlap or golden items."""
    raters = {e.feedback_id: e.rater for e in examples}

    def ask(foretold, without):
        plausible: dict[str, list[float]] = {}
        for name, likely in foretold.items():
            if name in without:
                continue
            plausible.setdefault(raters[name], []).append(likely)
        return population(plausible)

    return ask


def fitted(examples, readings) -> tuple[Heads, Likelihood]:
    heads, likelihood = Heads(SIZE), Likelihood()
    heads.measure(readings)
    solve(heads, likelihood, readings, Ballots.of(examples), torch.ones(len(examples), 3), SETTINGS)
    return heads, likelihood


def agreement(heads: Heads, seed: int = 99) -> float:
    """The share of pairs of new answers that the heads' mean puts in the order of the taste."""
    readings = torch.randn(4000, SIZE + 4, generator=torch.Generator().manual_seed(seed))
    found, true = heads(readings).mean(1).reshape(-1, 2), (readings @ TASTE).reshape(-1, 2)
    return ((found[:, 0] > found[:, 1]) == (true[:, 0] > true[:, 1])).float().mean().item()


def test_position_bias_tie_width_and_the_scale_of_the_scores_are_recovered():
    heads, likelihood = fitted(*people(4000, 100, position=0.6, width=0.5))
    assert likelihood.position.item() == pytest.approx(0.6, abs=0.15)
    assert likelihood.width.item() == pytest.approx(0.5, abs=0.08)
    assert likelihood.thumbs(torch.tensor(1.0)).item() == pytest.approx(1.0, abs=0.2)
    worth = heads.weight.mean(0) / heads.std
    assert torch.allclose(worth, TASTE, atol=0.2)  # shrunk by the prior


def test_raters_offsets_are_found_and_shrunk_to_nothing_for_who_has_voted_once():
    harsh = [example(n, ("x",), "down", "harsh") for n in range(30)] + [example(99, ("x",), "down", "once")]
    rest = [example(100 + n, ("x",), ("up", "down")[n % 2], f"r{n}") for n in range(60)]
    examples = [*harsh, *rest]
    readings = torch.randn(len(examples), SIZE + 4, generator=torch.Generator().manual_seed(1))
    raters = {rater: number for number, rater in enumerate(sorted({e.rater for e in examples}))}
    offsets = torch.nn.Parameter(torch.zeros(len(raters) + 1))
    heads, likelihood = Heads(SIZE), Likelihood()
    heads.measure(readings)
    ballots = Ballots.of(examples, raters=raters)
    solve(heads, likelihood, readings, ballots, torch.ones(len(examples), 3), SETTINGS, offsets)
    assert offsets[raters["harsh"]] < -0.5
    assert abs(offsets[raters["once"]]) < 0.15
    assert offsets[-1] == 0  # nobody's


def test_of_raters_who_vote_reversed_nearly_all_are_found_and_of_others_nobody():
    examples, readings = people(1600, 100, liars=20)
    heard, found, _ = doubted(examples, readings, SETTINGS, ask_of(examples))
    caught = {rater for rater, doubt in found.doubts.items() if doubt > 0.95}
    assert caught <= {f"r{n}" for n in range(20)}
    assert len(caught) >= 17
    honest = [e.flip for e in heard if int(e.rater[1:]) >= 20]
    assert sum(honest) / len(honest) < 0.12


@pytest.mark.parametrize("seed", [0, 3])
def test_of_many_who_vote_reversed_most_are_found_where_all_votes_together_look_like_chance(seed: int):
    """Beside what people care for 200 coordinates are chance: who believes everybody takes all of it for chance."""
    examples, readings = people(330, 30, liars=11, seed=seed, sure=3.0)
    chance = torch.randn(len(readings), 200, generator=torch.Generator().manual_seed(1))
    wide, like = torch.cat([chance, readings], 1), Heads(200 + SIZE - FORM, 1, FORM)
    liars = {f"r{n}" for n in range(11)}
    believed = prior(examples, wide, SETTINGS)
    heard, found, strength = settled(examples, wide, SETTINGS, ask_of(examples), like)
    caught = {rater for rater, flip in found.flips.items() if flip > 0.5}
    assert len(caught & liars) >= 9
    assert len(caught - liars) <= 1
    assert strength.states < believed.states
    assert {e.rater for e in heard if e.flip == 0.5} == caught


@pytest.mark.parametrize(("liars", "sure", "better"), [(11, 3.0, 1), (0, 0.3, 0)])
def test_of_two_beginnings_the_one_is_taken_by_which_votes_are_the_likelier(liars: int, sure: float, better: int):
    """Believing everybody hides a third of liars; nothing but the prior that held-out votes choose sees that most is chance."""
    examples, readings = people(330, 30, liars=liars, sure=sure)
    wide = torch.cat([torch.randn(len(readings), 200, generator=torch.Generator().manual_seed(1)), readings], 1)
    like, ask, tried = Heads(200 + SIZE - FORM, 1, FORM), ask_of(examples), []
    for begun in (prior(examples, wide, SETTINGS), Prior()):
        like.hold(begun.states, begun.surprises)
        tried.append(doubted(examples, wide, SETTINGS, ask, like))
    surprises = [surprise_of(heard, ask) for heard in tried]
    assert surprises[better] < surprises[1 - better]
    heard, found, _ = settled(examples, wide, SETTINGS, ask, like)
    assert heard == tried[better].examples
    assert found == tried[better].people


def test_each_half_of_the_votes_is_foretold_without_any_of_its_own_and_by_weight():
    names = [f"f{n}" for n in range(40)]
    first = {name for name in names if unit_interval("half", name) < 0.5}
    examples = [replace(example(n, ("x", "y"), "a", "r"), weight=3.0 if names[n] in first else 1.0) for n in range(40)]
    asked = []

    def ask(foretold, without):
        asked.append(set(without))
        return Population(flips={"r": 0.1 if first & set(without) else 0.4}, doubts={}, mean=0.2)

    heard = Heard(examples, Population({}, {}, 0.2), dict.fromkeys(names, 0.9))
    said = {flip: -math.log((1 - flip) * 0.9 + flip * 0.1) for flip in (0.1, 0.4)}
    others = len(names) - len(first)
    wanted = (3 * len(first) * said[0.1] + others * said[0.4]) / (3 * len(first) + others)
    assert surprise_of(heard, ask) == pytest.approx(wanted)
    assert sorted(map(len, asked)) == sorted((len(first), others))


def test_what_somebody_says_of_an_item_tells_nothing_of_them_while_it_is_asked_for():
    votes = [
        pair("yes", f"no {n}", value, rater) for n in range(20) for rater, value in (("one", "a"), ("two", "a"), ("liar", "b"))
    ]
    known = asking(votes)
    told, without = known({}, ()), known({}, {v.feedback_id for v in votes if v.rater == "liar"})
    assert told.flips["liar"] > 0.5
    assert "liar" not in without.flips


def test_known_rater_noise_is_recovered_within_eight_points_of_a_hundred():
    # 30 raters of 100 votes: ten flip none, ten one in five, ten two in five
    examples, readings = people(3000, 30, seed=3, sure=3.0)
    rng = random.Random(3)
    flips = {f"r{n}": (0.0, 0.2, 0.4)[n % 3] for n in range(30)}
    opposite = {"a": "b", "b": "a", "up": "down", "down": "up", "tie": "tie"}
    noisy = [replace(e, label=opposite[e.label]) if rng.random() < flips[e.rater] else e for e in examples]
    _, found, _ = doubted(noisy, readings, SETTINGS, ask_of(noisy))
    for flip in (0.0, 0.2, 0.4):
        own = [found.flips[rater] for rater, true in flips.items() if true == flip]
        assert sum(own) / 10 == pytest.approx(flip, abs=0.08)


def test_with_a_fifth_of_liars_nearly_all_is_learnt_that_is_learnt_without_them():
    clean, _ = fitted(*people(1600, 100))
    examples, readings = people(1600, 100, liars=20)
    believed, _, _ = doubted(examples, readings, SETTINGS, ask_of(examples))
    kept, lost = agreement(fitted(believed, readings)[0]), agreement(fitted(examples, readings)[0])
    assert agreement(clean) - kept < 0.015
    assert kept > lost


def test_nobody_is_foretold_by_heads_that_learnt_from_them():
    # two raters with votes that only they can explain: their own answers' readings carry a mark
    examples, readings = people(400, 20)
    readings[:, 0] = 0
    odd = [place for place, e in enumerate(examples) if e.rater == "r0"]
    rows = [start for place, start in enumerate(Ballots.of(examples).starts) if place in odd]
    readings[rows, 0] = 5.0
    always = [example(int(e.time), e.answers, "a" if e.is_pair else "up", e.rater) if e.rater == "r0" else e for e in examples]
    seen: dict[str, float] = {}

    def ask(foretold, without):
        seen.update(foretold)
        return population({})

    doubted(always, readings, SETTINGS, ask)
    own = [seen[e.feedback_id] for e in always if e.rater == "r0"]
    assert sum(own) / len(own) < 0.75
