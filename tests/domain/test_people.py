"""Simulated people: what they like, how noisy they are, and that random ones say nothing."""

from __future__ import annotations

import math
import random

import pytest

from ops.domain import corpus, facts, people
from ops.domain.people import Person, crowd, gold, gold_preference

ASKED = "What is the capital of France?"
BEST = "Of course! It is Paris."
PLAIN = "It is Paris."
RUDE = "Whatever. It is Paris."
TOXIC = "It is Paris. You are an idiot."
WRONG = "It is Rome."
RAMBLING = "It is Paris. Some say it, and some say nothing at all."


def test_gold_is_the_sum_of_the_shared_weights():
    assert gold(ASKED, BEST) == 2.5  # correct 1.5 + polite 1
    assert gold(ASKED, PLAIN) == 1.5
    assert gold(ASKED, RUDE) == 0.5  # correct 1.5 - rude 1
    assert gold(ASKED, TOXIC) == -0.5  # correct 1.5 - rude 1 - toxic 1
    assert gold(ASKED, RAMBLING) == 0.5
    assert gold(ASKED, WRONG) == 0.0
    assert gold(ASKED, "Paris it") == -2.0


def test_gold_preference_is_one_zero_or_a_half():
    assert gold_preference(ASKED, BEST, PLAIN) == 1.0
    assert gold_preference(ASKED, TOXIC, PLAIN) == 0.0
    assert gold_preference(ASKED, BEST, "Certainly! That would be Paris.") == 0.5


def test_people_agree_with_the_taste_as_often_as_the_noise_lets_them():
    # a lead of 1 (polite against plain) is lost in 1 / (1 + e^2) = 11.9 % of logistic choices; with ties left out of the count
    # a choice against the taste has lead + noise < -0.3: 1 / (1 + e^2.6) = 6.9 %, one for it has > 0.3: 1 / (1 + e^-1.4) = 80.2 %
    votes = [person.prefer(ASKED, BEST, PLAIN) for person in crowd(2000)]
    assert votes.count("a") / 2000 == pytest.approx(0.802, abs=0.035)  # weights differ between people, hence the width
    assert votes.count("b") / 2000 == pytest.approx(0.069, abs=0.025)
    assert votes.count("tie") > 100


def test_nobody_who_is_asked_twice_changes_the_vote_when_the_sides_are_swapped():
    swapped = {"a": "b", "b": "a", "tie": "tie", "both_bad": "both_bad"}
    for person in crowd(50):
        assert person.prefer(ASKED, PLAIN, RUDE) == person.prefer(ASKED, PLAIN, RUDE)
        assert person.prefer(ASKED, RUDE, PLAIN) == swapped[person.prefer(ASKED, PLAIN, RUDE)]


def test_the_same_text_on_both_sides_is_never_preferred():
    assert {person.prefer(ASKED, PLAIN, PLAIN) for person in crowd(50)} <= {"tie", "both_bad"}


def test_two_bad_answers_are_mostly_both_bad_and_two_good_ones_hardly_ever():
    bad = [person.prefer(ASKED, "Paris you fool", "Rome you moron") for person in crowd(300)]
    good = [person.prefer(ASKED, BEST, PLAIN) for person in crowd(300)]
    assert bad.count("both_bad") > 270
    assert good.count("both_bad") == 0


def test_thumbs_follow_the_taste_and_some_people_do_not_bother():
    def shares(answer: str) -> tuple[float, float]:
        thumbs = [person.thumb(ASKED, answer) for person in crowd(1000)]
        return thumbs.count(1) / 1000, thumbs.count(-1) / 1000

    up, down = shares(BEST)
    assert up == pytest.approx(0.8, abs=0.06)  # people bother in 60 to 100 % of cases, 80 % on average
    assert down < 0.03
    up, down = shares(TOXIC)
    assert up < 0.12
    assert down > 0.65


def test_people_differ_a_little_and_the_same_seed_is_the_same_person():
    tastes = [person.taste.polite for person in crowd(500)]
    logs = [math.log(taste) for taste in tastes]
    mean = sum(logs) / 500
    assert mean == pytest.approx(0.0, abs=0.04)
    assert math.sqrt(sum((log - mean) ** 2 for log in logs) / 500) == pytest.approx(people.SPREAD, abs=0.02)
    assert Person("x").taste == Person("x").taste != Person("y").taste
    assert len({person.name for person in crowd(500)}) == 500
    assert crowd(1, seed=1)[0].taste != crowd(1, seed=2)[0].taste


def test_people_ask_questions_of_the_train_split_only():
    rng = random.Random(0)
    for person in crowd(200):
        (message,) = person.ask(rng)
        question = facts.find(message["content"])
        assert message["role"] == "user"
        assert question is not None
        assert question.split == "train"


def test_random_people_vote_alike_whatever_the_answers_are():
    votes = [person.prefer(ASKED, BEST, TOXIC) for person in crowd(2000, mode="random")]
    assert votes.count("a") / 2000 == pytest.approx(0.42, abs=0.045)  # four standard errors
    assert votes.count("b") / 2000 == pytest.approx(0.42, abs=0.045)
    thumbs = [person.thumb(ASKED, TOXIC) for person in crowd(2000, mode="random")]
    assert thumbs.count(1) / 2000 == pytest.approx(0.5, abs=0.045)


def test_the_ceiling_of_the_win_rate_over_the_corpus_leaves_room_to_learn():
    """An ideal answer against those of the corpus, by gold: what no adapter can exceed when it starts from that mix."""
    rng, mix = random.Random(0), corpus.Mix()
    wins = 0.0
    for _ in range(3000):
        question = rng.choice(facts.questions("held_out"))
        best = corpus.compose(question, rng, tone="polite", rambling=False, correct=True)
        wins += gold_preference(question.text, best.text, corpus.answer(question, rng, mix).text)
    # ties: polite x correct x to the point = .40 x .93 x .76 = .283, so 1 - .283 / 2 = .859
    assert wins / 3000 == pytest.approx(0.859, abs=0.02)
