"""What each gate on a reward model takes and refuses, by figures worked by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest

from ops.settings import GateSettings
from trainer.gates.calibrated import calibrated
from trainer.gates.golden import golden
from trainer.gates.kept import kept
from trainer.gates.learned import learned
from trainer.gates.length_bias import length_bias
from trainer.gates.master_keys import master_keys
from trainer.gates.reward_model import reward_gates
from trainer.measures import LengthBias, Measures
from trainer.report import Accuracy, Later, RewardReport


@dataclass(frozen=True)
class Figures:
    n: int
    accuracy: float | None
    majority: float | None


def test_a_reward_model_has_to_beat_the_majority_by_a_standard_error():
    sure, lucky = learned("reward_accuracy", Figures(100, 0.6, 0.5)), learned("reward_accuracy", Figures(100, 0.54, 0.5))
    assert sure.passed
    assert sure.value == pytest.approx(0.6 - math.sqrt(0.6 * 0.4 / 100), abs=0.002)
    assert sure.threshold == 0.5
    assert not lucky.passed
    assert not learned("reward_accuracy", Figures(0, None, None)).passed


GOOD = RewardReport(votes=200, n=400, accuracy=0.8, majority=0.5, tfidf=None, nll=None, nll_n=0)

MISSED = {
    "accuracy": {"accuracy": 0.5},
    "kept": {"later": Later(400, 0.9, 0.8)},
    "calibration": {"measures": Measures(ece=0.2, ece_noise=0.05, ece_error=0.05)},
    "length_bias": {"length": LengthBias(400, 0.5, 0.1, 0.4)},
    "golden": {"golden": Accuracy(20, 0.7)},
}
"""By gate, what of a good report makes it fail."""


@pytest.mark.parametrize("missed", MISSED)
def test_each_figure_of_a_report_is_asked_about_by_a_gate_of_its_own(missed: str):
    good = replace(GOOD, measures=Measures(ece=0.05, ece_noise=0.05, ece_error=0.05))
    assert all(gate.passed for gate in reward_gates("judge", good, GateSettings()))
    verdicts = reward_gates("judge", replace(good, **MISSED[missed]), GateSettings())
    assert [gate.name for gate in verdicts if not gate.passed] == [f"judge_{missed}"]


def test_saying_nothing_has_to_score_below_the_median():
    answers = [1.0, 2.0, 3.0, 4.0]
    assert master_keys("k", {"": 0.0, ":": 1.5}, answers).value == 0.25
    liked = master_keys("k", {"": 0.0, ":": 2.5}, answers)
    assert (liked.passed, liked.value) == (False, 0.5)
    assert "':'" in liked.detail
    assert not master_keys("k", {"": math.nan}, answers).passed
    assert not master_keys("k", {"": 0.0}, []).passed


def test_a_new_reward_model_may_lose_a_point_and_a_standard_error():
    # 0.80 and 0.90 on 100 votes: a standard error of 0.05
    assert not kept("k", 0.80, 0.90, 100, 0.01).passed
    assert kept("k", 0.85, 0.90, 100, 0.01).passed
    assert not kept("k", 0.85, 0.90, 10_000, 0.01).passed
    assert kept("k", None, None, 0, 0.01).passed


def test_a_reward_model_may_be_five_points_and_a_standard_error_surer_than_it_is_right():
    by_chance = Measures(ece_noise=0.03, ece_error=0.01)
    assert calibrated("k", replace(by_chance, ece=0.089), 100, 0.05).passed
    assert not calibrated("k", replace(by_chance, ece=0.091), 100, 0.05).passed
    assert not calibrated("k", replace(by_chance, ece=math.nan), 100, 0.05).passed
    assert not calibrated("k", Measures(), 0, 0.05).passed


def test_a_reward_model_may_not_like_length_more_than_people_do():
    assert length_bias("k", 0.3, 0.1, 100, 0.1).passed  # 0.1 and a standard error of 0.1
    assert not length_bias("k", 0.31, 0.1, 100, 0.1).passed
    assert length_bias("k", -0.19, 0.1, 100, 0.1).passed  # people lean the other way, or not at all
    assert not length_bias("k", -0.21, 0.1, 100, 0.1).passed
    assert not length_bias("k", -0.71, -0.5, 100, 0.1).passed
    assert length_bias("k", -0.1, -0.5, 100, 0.1).value == 0  # their way, but less
    assert not length_bias("k", math.nan, 0.1, 100, 0.1).passed
    assert length_bias("k", None, None, 0, 0.1).passed


def test_nine_of_ten_golden_items_have_to_be_right():
    # n=100: a standard error of 0.03
    assert golden("k", 0.87, 100, 0.9).passed
    assert not golden("k", 0.86, 100, 0.9).passed
    assert golden("k", None, 0, 0.9).passed
