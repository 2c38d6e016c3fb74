"""The reward model on a frozen trunk: it learns from the same votes, by its heads alone."""

from __future__ import annotations

import math

import pytest
import torch
from judgements import example, taste

from ops.settings import RewardSettings
from trainer.examples import weighted
from trainer.frozen import width
from trainer.heads import HEADS
from trainer.learner import TrainingDiverged
from trainer.negatives import negatives
from trainer.report import report
from trainer.reward import RewardModel
from trainer.reward_fit import Fit
from trainer.strength import prior

FROZEN, ADAPTER = RewardSettings(trunk="frozen"), RewardSettings(learning_rate=1e-2, epochs=1)


def test_it_learns_a_planted_preference_and_its_adapter_stays_without_effect(tiny):
    reward = RewardModel(tiny, "reward")
    learnt, held_out = taste(48, seed=1), taste(40, seed=2)
    (loss,) = reward.fit(learnt, FROZEN, seed=0)
    figures = report(reward, learnt, held_out)
    assert figures.accuracy >= 0.9 > figures.majority
    assert figures.nll < math.log(2)
    assert loss < math.log(2)
    assert not any(weight.any() for name, weight in tiny.weights("reward").items() if "lora_B" in name)


def test_it_survives_being_saved_and_the_folder_says_what_it_stands_on(tiny, tmp_path):
    reward = RewardModel(tiny, "reward")
    reward.fit(taste(16, seed=1), FROZEN, seed=0)
    scores = torch.cat(reward.score_examples(taste(8, seed=2)))
    reward.save(tmp_path / "reward")
    loaded = RewardModel(tiny, "loaded", source=tmp_path / "reward")
    assert loaded.trunk == "frozen"
    assert torch.equal(torch.cat(loaded.score_examples(taste(8, seed=2))), scores)
    loaded.fit(taste(16, seed=1), FROZEN, seed=0)
    assert torch.cat(loaded.score_examples(taste(8, seed=2))) == pytest.approx(scores, abs=0.02)


def test_its_heads_go_as_far_as_held_out_votes_allow(tiny):
    reward, votes = RewardModel(tiny, "reward"), weighted(taste(24, seed=1))
    reward.fit(votes, FROZEN, seed=0)
    taught = [*votes, *negatives(votes)]
    rows = [row for vote in taught for row in reward._rows(vote)]
    said = sum(len(vote.answers) for vote in votes)
    read = reward.reader([(row.prompt_tokens, row.tokens) for row in rows])
    found = prior(votes, read[:said], FROZEN)
    assert reward.heads.strength.tolist() == [[found.states, found.surprises]] * HEADS
    assert found.scale > 1
    unscaled = RewardModel(tiny, "unscaled")
    unscaled.trunk, unscaled.heads = "frozen", reward.heads.others(HEADS)
    Fit(unscaled, taught, rows, read, FROZEN, 0, len(votes), said).run()
    assert torch.allclose(reward.heads.weight, found.scale * unscaled.heads.weight, rtol=1e-3, atol=1e-5)


def test_readings_that_are_not_numbers_end_the_training(tiny):
    reward = RewardModel(tiny, "reward")
    tiny.model.model.norm.weight.data.fill_(math.nan)
    with pytest.raises(TrainingDiverged, match="what the base reads for 'reward' in the answers is not finite"):
        reward.fit(taste(16, seed=1), FROZEN, seed=0)


def test_changing_the_trunk_begins_anew(tiny):
    reward = RewardModel(tiny, "reward")
    reward.fit(taste(16, seed=1), FROZEN, seed=0)
    assert reward.heads.weight.shape[1] == width(tiny)
    reward.fit(taste(16, seed=1), ADAPTER, seed=0)
    other = RewardModel(tiny, "other")
    other.fit(taste(16, seed=1), ADAPTER, seed=0)
    assert reward.trunk == "adapter"
    assert reward.heads.weight.shape == other.heads.weight.shape


def test_answers_that_are_scored_again_are_not_read_again(tiny):
    passes: list[int] = []
    reward, judge = RewardModel(tiny, "reward"), RewardModel(tiny, "judge")
    reward.fit(taste(16, seed=1), FROZEN, seed=0)
    tiny.decoder.register_forward_hook(lambda *_: passes.append(1))
    reward.score_examples(taste(16, seed=1))
    judge.fit(taste(16, seed=1), FROZEN, seed=1)
    assert not passes
    judge.score_examples([example(99, ("never seen",), "up")])
    assert passes


def test_how_far_heads_are_apart_is_what_caution_takes_off(tiny):
    reward = RewardModel(tiny, "reward")
    reward.fit(taste(24, seed=1), FROZEN, seed=0)
    rows = [row for each in taste(8, seed=2) for row in reward._rows(each)]
    opinions = reward.opinions(rows)
    assert opinions.std(1).min() > 0
    assert reward.cautious(rows) == pytest.approx(opinions.mean(1) - opinions.std(1))
