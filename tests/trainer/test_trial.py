"""Adapters of a tiny model before all gates at once."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from noise import noisy
from vote_log import settings_for

from feedback.events import Message
from ops.settings import SamplingSettings
from trainer.batches import TokenBatch
from trainer.gates.agreement import precise_logprobs
from trainer.gates.master_keys import MASTER_KEYS
from trainer.policy import AdapterModel
from trainer.reward import RewardModel
from trainer.rollouts import LocalRollouts, RolloutsUnavailable
from trainer.trial import FEW_PROMPTS, Trial, divide_prompts


def prompts(count: int):
    return [(Message(role="user", content=f"question {n}?"),) for n in range(count)]


class Away(LocalRollouts):
    """An engine that does not answer."""

    def generate(self, *asked, **how):
        raise RolloutsUnavailable("engine http://away: ConnectError")


class Apart(LocalRollouts):
    """An engine whose log-probabilities are all 0.03 nats away from the trainer's."""

    def generate(self, *asked, **how):
        samples = super().generate(*asked, **how)
        return [replace(sample, logprobs=tuple(p - 0.03 for p in sample.logprobs)) for sample in samples]


class Fooled:
    """Likes (or dislikes: -1) what says nothing, and all else alike."""

    def __init__(self, sign: int) -> None:
        self.sign = sign

    def score(self, answers):
        return torch.tensor([float(self.sign * (answer.text in MASTER_KEYS)) for answer in answers])


def verdicts(tiny, settings, standards=None, champion="base", temperature=1.0, judge=None, reward=None, **asked):
    sampling = settings.sampling.model_copy(update={"temperature": temperature})
    trial = Trial(tiny, champion, prompts(16), None, settings, sampling=sampling, seed=0)
    judge, reward = judge or RewardModel(tiny, "judge"), reward or RewardModel(tiny, "reward")
    results, after = trial.run(judge, standards or {}, reward=reward, **asked)
    return {result.name: result for result in results}, after


def test_an_adapter_without_effect_is_its_champion_and_wins_nothing(tiny, tiny_folder, tmp_path):
    tiny.add("policy")
    results, _ = verdicts(tiny, settings_for(tmp_path, tiny_folder))
    assert [name for name, result in results.items() if not result.passed] == ["judge_win_rate"]
    assert results["kl_champion"].value == results["kl_base"].value == 0
    assert results["length"].value == results["well_formed"].value == 1
    assert "32 answers to 16 prompts" in results["judge_win_rate"].detail


def test_answers_are_tried_as_long_as_people_get_them_and_not_as_long_as_the_policy_learns_from(tiny, tiny_folder, tmp_path):
    """What is cut at six tokens looks no longer than what ends there."""
    settings = settings_for(tmp_path, tiny_folder)
    tiny.add("policy")
    for served, median in ((settings.sampling.max_tokens, 6), (40, 40)):
        results, _ = verdicts(
            tiny,
            settings.model_copy(update={"sampling": SamplingSettings(max_tokens=served)}),
            judge=Fooled(1),
            reward=Fooled(1),
        )
        assert f"median {median} " in results["length"].detail


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


def test_the_kl_is_that_of_the_policy_as_it_is_and_not_as_it_is_served(tiny, tiny_folder, tmp_path):
    tiny.add("policy")
    noisy(tiny, "policy", size=0.3)
    settings = settings_for(tmp_path, tiny_folder)
    plain, sharp = (verdicts(tiny, settings, temperature=t, judge=Fooled(1), reward=Fooled(1))[0] for t in (1.0, 0.2))
    assert plain["kl_base"].value > 0.1
    assert sharp["kl_base"].value == pytest.approx(plain["kl_base"].value)
    assert sharp["distinct_2"] != plain["distinct_2"]


def test_each_model_is_asked_itself_what_it_thinks_of_saying_nothing(tiny, tiny_folder, tmp_path):
    tiny.add("policy")
    settings = settings_for(tmp_path, tiny_folder)
    for sign in (1, -1):
        results, _ = verdicts(tiny, settings, judge=Fooled(sign), reward=Fooled(-sign))
        assert results["master_keys_judge"].passed == (sign == -1)
        assert results["master_keys_reward"].passed == (sign == 1)


def test_the_first_engine_that_answers_is_compared_with_the_trainer(tiny, tiny_folder, tmp_path):
    tiny.add("policy")
    results, _ = verdicts(tiny, settings_for(tmp_path, tiny_folder), engines=[Away(tiny), Apart(tiny), LocalRollouts(tiny)])
    gate = results["engine_agreement"]
    assert (gate.passed, gate.value, gate.threshold) == (False, pytest.approx(0.03, abs=1e-3), 0.02)


def test_the_trainers_own_rounding_of_logits_is_no_difference_between_engine_and_trainer(tiny):
    batch = TokenBatch.pack([[65, 66, 67]] * 4, [list(range(68, 100))] * 4)
    tiny.add("policy")
    tiny.decoder.norm.weight.mul_(8)  # logits as large as those of real models
    tiny.model.bfloat16()
    ((where, tokens, states),) = tiny.foretold("policy", batch)
    exact = (states.double() @ tiny.head.weight.double().T).log_softmax(-1)[range(len(tokens)), tokens]
    apart = [ask(tiny, "policy", batch)[where] - exact for ask in (precise_logprobs, AdapterModel.response_logprobs)]
    assert apart[0].abs().max() < 1e-4 < 1e-2 < apart[1].abs().mean()


def test_engines_that_are_away_refuse_nobody(tiny, tiny_folder, tmp_path):
    tiny.add("policy")
    results, _ = verdicts(tiny, settings_for(tmp_path, tiny_folder), engines=[Away(tiny)])
    gate = results["engine_agreement"]
    assert (gate.passed, gate.value) == (True, None)
    assert gate.detail == "not compared: no engine answered"


def test_what_an_earlier_champion_could_do_is_asked_of_everybody_after_it(tiny, tiny_folder, tmp_path):
    tiny.add("policy")
    settings = settings_for(tmp_path, tiny_folder)
    told = {"well_formed": 0.9, "most_tokens": settings.sampling.max_tokens}
    results, after = verdicts(tiny, settings, told, judge=Fooled(1), reward=Fooled(1))
    assert not results["well_formed"].passed  # the random model ends few of its answers
    assert after["well_formed"] == 0.9
    results, after = verdicts(tiny, settings, told | {"most_tokens": 80}, judge=Fooled(1), reward=Fooled(1))
    assert results["well_formed"].passed  # what it could do where answers may be longer tells nothing
    assert after["well_formed"] < 0.9


def test_the_bases_length_is_handed_on_from_champion_to_champion(tiny, tiny_folder, tmp_path):
    tiny.add("policy")
    settings = settings_for(tmp_path, tiny_folder)
    _, first = verdicts(tiny, settings)
    assert first["base_tokens"] > 0
    tiny.remove("judge")
    tiny.remove("reward")
    tiny.add("champion")
    results, second = verdicts(tiny, settings, {**first, "base_tokens": 77.0}, champion="champion")
    assert second["base_tokens"] == 77
    assert "the base's 77" in results["length"].detail


def test_where_the_truth_is_known_correctness_is_a_gate_too(tiny, tiny_folder, tmp_path):
    tiny.add("policy")
    settings = settings_for(tmp_path, tiny_folder)
    _, asked = divide_prompts([], "starter")
    trial = Trial(tiny, "base", asked, "starter", settings, sampling=settings.sampling, seed=0)
    told = {"correct": 0.8, "most_tokens": settings.sampling.max_tokens}
    results, after = trial.run(RewardModel(tiny, "judge"), told, reward=RewardModel(tiny, "reward"))
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
