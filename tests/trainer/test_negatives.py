"""Answers that say nothing are below those that people were glad to get, whatever people say."""

from __future__ import annotations

import pytest
from judgements import GOOD, example, taste

from ops.settings import RewardSettings
from trainer.gates.master_keys import MASTER_KEYS
from trainer.negatives import EACH, EMPTY, SHARE, negatives
from trainer.reward import RewardModel


def test_what_was_preferred_or_liked_is_set_against_every_empty_answer():
    lessons = [example(1, ("x", "y"), "a"), example(2, ("x", "y"), "b"), example(3, ("z",), "up")]
    made = negatives(lessons)
    assert {(each.answers, each.label, each.rater, each.side_by_side) for each in made} == {
        ((liked, empty), "a", "", False) for liked in ("x", "y", "z") for empty in EMPTY
    }
    assert len(made) == len(EMPTY) * EACH
    assert made == negatives(lessons[::-1])


def test_they_weigh_a_tenth_of_what_people_say_and_one_each_at_most():
    assert sum(each.weight for each in negatives(taste(40, seed=1))) == pytest.approx(SHARE * 40)
    assert {each.weight for each in negatives(taste(400, seed=1))} == {1.0}


def test_without_an_answer_that_anybody_liked_there_are_none():
    assert negatives([example(1, ("x", "y"), "both_bad"), example(2, ("x",), "down"), example(3, ("", "y"), "a")]) == []


def test_no_reward_model_likes_answers_that_say_nothing(tiny):
    reward = RewardModel(tiny, "reward")
    lessons = taste(48, seed=1)
    reward.fit(lessons, RewardSettings(learning_rate=1e-2, epochs=4), seed=0)
    asked = [example(90 + place, (key,), "up") for place, key in enumerate(MASTER_KEYS)]
    liked = sorted(map(float, reward.score_examples([example(80 + at, (answer,), "up") for at, answer in enumerate(GOOD)])))
    assert max(map(float, reward.score_examples(asked))) < liked[len(liked) // 2]
