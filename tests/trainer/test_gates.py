from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from vote_log import settings_for

from feedback.events import Message
from trainer.gates.divergence import divergence
from trainer.gates.form import form, is_well_formed
from trainer.gates.judged import effective_n, judged, wins
from trainer.gates.learned import learned
from trainer.gates.length import length
from trainer.gates.truth import truth
from trainer.gates.weights import finite_weights
from trainer.reward import RewardModel
from trainer.trial import FEW_PROMPTS, Trial, divide_prompts


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


def test_the_judge_has_to_prefer_the_candidate_beyond_chance():
    # Wilson for 60 of 100: 0.502 to 0.691
    won, drawn = judged([1.0] * 60 + [0.0] * 40, range(100), 0.5), judged([1.0] * 59 + [0.0] * 41, range(100), 0.5)
    assert (won.passed, won.value) == (True, pytest.approx(0.502, abs=0.001))
    assert not drawn.passed
    assert not judged([], [], 0.5).passed


def test_equal_answers_are_half_a_win():
    assert wins([1.0, 2.0, 0.0], [1.0, 1.0, 1.0]) == [0.5, 1.0, 0.0]
    assert not judged([0.5] * 1000, range(1000), 0.5).passed


def test_asking_one_question_many_times_is_not_many_questions():
    assert effective_n([1.0, 0.0] * 50, range(100)) == 100
    alike = [float(prompt < 6) for prompt in range(10) for _ in range(100)]
    prompts = [prompt for prompt in range(10) for _ in range(100)]
    # ten means of 0 and 1, six of them 1: variance 10/9 * 0.24 / 10, so 0.24 / (0.24 / 9) = 9
    assert effective_n(alike, prompts) == 9
    assert not judged(alike, prompts, 0.5).passed
    assert judged([1.0] * 600 + [0.0] * 400, range(1000), 0.5).passed
    assert effective_n([1.0, 0.0] * 5, [0] * 10) == 1


def test_a_policy_may_not_go_far_from_its_reference():
    assert divergence("kl_base", [1.0, 3.0], 2.0).passed
    over = divergence("kl_base", [1.0, 3.1], 2.0)
    assert (over.passed, over.value, over.threshold) == (False, pytest.approx(2.05), 2.0)
    assert not divergence("kl_base", [math.nan], 2.0).passed
    assert not divergence("kl_base", [math.inf], 2.0).passed
    assert not divergence("kl_base", [], 2.0).passed


FINE = [
    "Yes.",
    "It is 12, it is 12.",
    "Well well well",
    "a" * 11 + "!",
    "no no, no no, yes",
    "| --- | --- |\n---",
    "10000000000000",
]


@pytest.mark.parametrize("text", FINE)
def test_an_answer_is_well_formed(text):
    assert is_well_formed(text, ended=True)
    assert not is_well_formed(text, ended=False)


@pytest.mark.parametrize("text", ["", " \n", "the the the the the", "I see. I see. I see. I see. ", "!" * 40])
def test_silence_and_loops_are_not_well_formed(text):
    assert not is_well_formed(text, ended=True)


def test_the_share_of_well_formed_answers_is_held_against_the_best_champion():
    assert form([True] * 95 + [False] * 5, 1.0, 0.95).passed
    worse = form([True] * 94 + [False] * 6, 1.0, 0.95)
    assert (worse.passed, worse.value) == (False, 0.94)
    assert form([False], 0.0, 0.95).passed
    assert not form([], 1.0, 0.95).passed


def test_at_most_five_points_of_truth_may_be_lost():
    assert truth([True] * 76 + [False] * 24, 0.81).passed
    assert not truth([True] * 75 + [False] * 25, 0.81).passed
    assert not truth([], 0.0).passed


def test_the_median_length_may_neither_halve_nor_grow_by_more_than_a_quarter():
    champion = [8, 10, 100]
    verdicts = {median: length([1, median, 200], champion, 0.5, 1.25).passed for median in (4, 5, 12, 13)}
    assert verdicts == {4: False, 5: True, 12: True, 13: False}
    assert length([4], champion, 0.5, 1.25).threshold == 0.5
    assert not length([], champion, 0.5, 1.25).passed


def test_one_weight_that_is_no_number_is_one_too_many():
    weights = {"a": torch.ones(3), "b": torch.ones(1)}
    assert finite_weights(weights).passed
    weights["b"][0] = math.nan
    assert (finite_weights(weights).passed, finite_weights(weights).value) == (False, 0.75)
    assert not finite_weights({}).passed


def prompts(count: int):
    return [(Message(role="user", content=f"question {n}?"),) for n in range(count)]


def verdicts(tiny, settings, standards=None, champion="base"):
    trial = Trial(tiny, champion, prompts(16), None, settings, temperature=1.0, seed=0)
    results, after = trial.run(RewardModel(tiny, "judge"), standards or {})
    return {result.name: result for result in results}, after


def test_an_adapter_without_effect_is_its_champion_and_wins_nothing(tiny, tiny_folder, tmp_path):
    tiny.add("policy")
    results, _ = verdicts(tiny, settings_for(tmp_path, tiny_folder))
    assert [name for name, result in results.items() if not result.passed] == ["judge_win_rate"]
    assert results["kl_champion"].value == results["kl_base"].value == 0
    assert results["length"].value == results["well_formed"].value == 1
    assert "32 answers to 16 prompts" in results["judge_win_rate"].detail


def test_an_adapter_of_nans_is_refused_without_being_asked_anything(tiny, tiny_folder, tmp_path):
    tiny.add("policy")
    next(iter(tiny.weights("policy").values())).fill_(math.nan)
    results, _ = verdicts(tiny, settings_for(tmp_path, tiny_folder))
    assert [(name, result.passed) for name, result in results.items()] == [("finite_weights", False)]


def test_an_adapter_far_from_the_base_is_over_the_kl_limits(tiny, tiny_folder, tmp_path):
    tiny.add("policy")
    for name, weight in tiny.weights("policy").items():
        if "lora_B" in name:
            weight.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
    settings = settings_for(tmp_path, tiny_folder, gates={"prompts": 32, "max_kl_champion": 0.5, "max_kl_base": 0.5})
    results, _ = verdicts(tiny, settings)
    assert not results["kl_base"].passed
    assert not results["kl_champion"].passed


def test_the_kl_to_a_champion_is_not_that_to_the_base(tiny, tiny_folder, tmp_path):
    tiny.add("champion")
    for name, weight in tiny.weights("champion").items():
        if "lora_B" in name:
            weight.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    tiny.add("policy", source="champion")
    results, _ = verdicts(tiny, settings_for(tmp_path, tiny_folder), champion="champion")
    assert results["kl_champion"].value == pytest.approx(0, abs=1e-4)
    assert results["kl_base"].value > 0.01


def test_what_an_earlier_champion_could_do_is_asked_of_everybody_after_it(tiny, tiny_folder, tmp_path):
    tiny.add("policy")
    settings = settings_for(tmp_path, tiny_folder)
    results, after = verdicts(tiny, settings, {"well_formed": 0.9})
    assert not results["well_formed"].passed  # the random model ends few of its answers
    assert after["well_formed"] == 0.9


def test_where_the_truth_is_known_correctness_is_a_gate_too(tiny, tiny_folder, tmp_path):
    tiny.add("policy")
    settings = settings_for(tmp_path, tiny_folder)
    _, asked = divide_prompts([], "starter")
    trial = Trial(tiny, "base", asked, "starter", settings, temperature=1.0, seed=0)
    results, after = trial.run(RewardModel(tiny, "judge"), {"correct": 0.8})
    gate = next(result for result in results if result.name == "correct")
    assert (gate.passed, gate.value, gate.threshold) == (False, 0.0, pytest.approx(0.75))
    assert after["correct"] == 0.8


def test_questions_for_the_gates_are_not_those_that_are_trained_on():
    trained, asked = divide_prompts(prompts(FEW_PROMPTS * 4), None)
    assert len(trained) + len(asked) == FEW_PROMPTS * 4
    assert set(trained).isdisjoint(asked)
    assert len(asked) > 10
    few = prompts(FEW_PROMPTS - 1)
    assert divide_prompts(few, None) == (few, few)
    from ops.domain.facts import find

    assert {find(prompt[-1].content).split for prompt in divide_prompts(few, "starter")[1]} == {"gate"}
