"""The learning curve of one round."""

from __future__ import annotations

from dataclasses import replace

import pytest
from judgements import example, taste

from feedback.raters.population import Population
from ops.settings import RewardSettings
from trainer.vote_curve import vote_curve

SETTINGS = RewardSettings()


def test_the_curve_rises_from_an_eighth_of_the_votes_to_all_and_leaves_nothing_behind(tiny):
    learnt, held_out = taste(64, seed=1), taste(24, seed=2)
    curve = vote_curve(tiny, learnt, held_out, SETTINGS, seed=0)
    assert [point.votes for point in curve] == [8, 16, 32, 64]
    assert curve[-1].accuracy == 1.0
    assert curve[-1].nll < curve[0].nll
    assert 0.5 < curve[-1].tfidf <= 1.0
    assert tiny.names == ()
    assert vote_curve(tiny, learnt, held_out, SETTINGS, seed=0) == curve


def test_parts_are_drawn_and_not_the_oldest_votes(tiny):
    """The first half says the contrary: whoever learnt from the oldest would foretell nothing."""
    contrary = [replace(each, label={"a": "b", "b": "a", "up": "down", "down": "up"}[each.label]) for each in taste(24, seed=3)]
    curve = vote_curve(tiny, [*contrary, *taste(72, seed=1)], taste(24, seed=2), SETTINGS, seed=0)
    assert [point.votes for point in curve] == [12, 24, 48, 96]
    assert curve[1].accuracy > 0.5


@pytest.mark.parametrize(("votes", "told"), [(7, []), (8, [8]), (20, [10, 20])])
def test_of_a_few_votes_nothing_is_told(tiny, votes, told):
    assert [point.votes for point in vote_curve(tiny, taste(votes, seed=1), taste(8, seed=2), SETTINGS, seed=0)] == told


def test_scores_of_goals_are_no_votes_and_whoever_is_known_to_say_the_contrary_tests_nobody(tiny):
    scored = [example(900 + n, ("x",), "scored", metric="style", value=1.0) for n in range(8)]
    settings = RewardSettings(goals={"style": 1.0})
    reversed_ = [replace(each, rater="reversed", label="b") for each in taste(12, seed=3) if each.label == "a"]
    people = Population(flips={"reversed": 0.9}, doubts={}, mean=0.1)
    plain = vote_curve(tiny, taste(32, seed=1), taste(16, seed=2), SETTINGS, seed=0)
    curve = vote_curve(tiny, [*taste(32, seed=1), *scored], [*taste(16, seed=2), *reversed_, *scored], settings, 0, people)
    assert [(p.votes, p.accuracy) for p in curve] == [(p.votes, p.accuracy) for p in plain]
