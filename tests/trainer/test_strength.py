from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from feedback.events import Message
from ops.settings import RewardSettings
from trainer.examples import Example, prompt_hash
from trainer.heads import PENALTY, SURPRISE_PENALTY, Heads
from trainer.strength import FOLDS, SCALES, Prior, folds_of, prior

SETTINGS = RewardSettings()
WIDTH = 300


def example(number: int, a_is_better: bool, prompt: int | None = None) -> Example:
    asked = (Message(role="user", content=f"question {number if prompt is None else prompt}?"),)
    label = "a" if a_is_better else "b"
    return Example(f"f{number}", float(number), f"r{number}", asked, prompt_hash(asked), ("one", "other"), (True, True), label)


def votes(count: int, signal: float, seed: int = 0, column: int = 0) -> tuple[list[Example], torch.Tensor]:
    """Pairs, and readings of their answers: one feature counts ``signal`` beside a noise of 1, all others are chance."""
    random = torch.Generator().manual_seed(seed)
    read = torch.randn(count, 2, WIDTH + 4, generator=random)
    lead = signal * (read[:, 0, column] - read[:, 1, column]) + torch.randn(count, generator=random)
    return [example(number, bool(lead[number] > 0)) for number in range(count)], read.reshape(2 * count, -1)


def test_a_plain_taste_is_trusted_more_than_chance():
    assert prior(*votes(120, signal=20.0), SETTINGS)[0] <= 10 < prior(*votes(120, signal=0.0, seed=1), SETTINGS)[0]


def test_surprises_keep_their_say_where_people_care_for_them():
    assert prior(*votes(120, signal=20.0, column=WIDTH), SETTINGS)[1] == 1.0


def test_few_votes_change_the_scale_seldom_and_little():
    scales = [prior(*votes(20, signal=0.0, seed=seed), SETTINGS).scale for seed in range(8)]
    assert sorted(scales)[:6] == [1.0] * 6
    assert max(scales) <= 1.4


def test_where_many_votes_are_chance_scores_are_made_smaller():
    assert prior(*votes(300, signal=0.0, seed=1), SETTINGS).scale == min(SCALES)


def test_a_prompts_votes_are_held_out_together():
    """Each prompt is asked twice, with the same answers and the same vote, which are by chance: only a leak could tell."""
    examples, read = votes(60, signal=0.0, seed=1)
    twice = [example(number, examples[number // 2].label == "a", prompt=number // 2) for number in range(120)]
    doubled = read.reshape(60, 2, -1).repeat_interleave(2, 0).reshape(240, -1)
    assert prior(twice, doubled, SETTINGS)[0] >= 100
    apart = [replace(each, prompt_hash=str(number)) for number, each in enumerate(twice)]
    assert prior(apart, doubled, SETTINGS)[0] <= 1


def test_with_fewer_prompts_than_folds_the_prior_stays_what_it_is():
    examples, read = votes(FOLDS - 1, signal=1.0)
    assert prior(examples, read, SETTINGS) == Prior(1.0, 1.0, 1.0)


def test_each_head_has_priors_of_its_own_strength_for_states_and_for_surprises():
    heads = Heads(3, count=2)
    heads.weight.data.fill_(0.1)
    heads.strength.copy_(torch.tensor([[1.0, 1.0], [10.0, 100.0]]))
    one, ten = heads.penalty().tolist()
    assert one == pytest.approx(0.01 * (3 * PENALTY + 4 * SURPRISE_PENALTY) / 2)
    assert ten == pytest.approx(0.01 * (10 * 3 * PENALTY + 100 * 4 * SURPRISE_PENALTY) / 2)


def test_folds_are_of_like_size_and_follow_from_names_alone():
    assert folds_of(["b", "a", "b", "f", "c", "d", "e"]) == [1, 0, 1, 0, 2, 3, 4]
