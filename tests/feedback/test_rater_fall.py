from __future__ import annotations

import random
from statistics import median

import pytest
from scipy.stats import beta

from feedback.raters.fall import OUTCOMES_PER_FALSE_ALARM, fall_of
from feedback.raters.share import Share


def rater(rng: random.Random, *stretches: tuple[int, float]) -> list[bool]:
    """Outcomes of stretches of so many, with so high a chance of being right."""
    return [rng.random() < chance for n, chance in stretches for _ in range(n)]


def test_a_record_of_right_answers_that_turn_wrong_is_as_by_hand():
    # 38 right: p is the 5 % quantile of Beta(2 + 38, 1); a wrong one multiplies C by (1 - q) / (1 - p)
    fall = fall_of([True] * 38 + [False] * 20)
    p = beta.ppf(0.05, 40, 1)
    wrongs, evidence = 0, 0.0
    while evidence < OUTCOMES_PER_FALSE_ALARM:
        wrongs += 1
        evidence = sum(((1 - 1 / (1 + (1 - p) / p * ratio)) / (1 - p)) ** wrongs for ratio in (4, 12, 40)) / 3
    assert fall.evidence == pytest.approx(evidence)
    assert (fall.start, fall.alarm) == (38, 37 + wrongs)
    assert (fall.before, fall.after) == (Share(38, 38), Share(0, wrongs))
    assert wrongs == 5


@pytest.mark.parametrize("chance", [0.5, 0.6, 0.75, 0.9, 0.97])
def test_raters_who_stay_as_they_are_raise_no_more_alarms_than_stated(chance):
    rng = random.Random(int(100 * chance))
    alarms = sum(fall_of(rater(rng, (500, chance))) is not None for _ in range(150))
    assert alarms / (150 * 500) <= 1 / OUTCOMES_PER_FALSE_ALARM  # 7.5 alarms in all


def test_the_rate_of_false_alarms_follows_the_figure_that_is_asked_for():
    rng = random.Random(1)
    people = [rater(rng, (400, 0.8)) for _ in range(150)]
    alarms = [sum(fall_of(outcomes, rate) is not None for outcomes in people) for rate in (20.0, 400.0)]
    assert alarms[0] > 3 * alarms[1]
    assert alarms[1] <= 150


def test_raters_who_get_better_raise_no_alarm():
    rng = random.Random(2)
    assert not any(fall_of(rater(rng, (60, 0.55), (100, 0.75), (200, 0.95))) for _ in range(60))


@pytest.mark.parametrize(("before", "after", "within"), [(0.9, 0.1, 10), (0.95, 0.5, 30), (0.9, 0.5, 35)])
def test_a_fall_is_found_soon_and_its_beginning_nearly(before, after, within):
    rng = random.Random(3)
    falls = [fall_of(rater(rng, (100, before), (150, after))) for _ in range(60)]
    found = [fall for fall in falls if fall is not None and fall.alarm >= 100]
    assert len(found) >= 57
    assert median(fall.alarm - 99 for fall in found) <= within
    assert abs(median(fall.start for fall in found) - 100) <= 2
    assert median(fall.after.value for fall in found) < 0.6 < 0.8 < median(fall.before.value for fall in found)


def test_nothing_is_said_of_who_has_no_record():
    assert fall_of([]) is None
    assert fall_of([False] * 5) is None
