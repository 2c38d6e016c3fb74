"""Every gate on a reward model beside a real one that it is there for, and an honest one that passes them all."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from judgements import BAD, GOOD, example, taste

from ops.settings import GateSettings, RewardSettings
from trainer.examples import Example
from trainer.gates.reward_model import reward_gates
from trainer.policy import AdapterModel
from trainer.report import margins_of, report
from trainer.reward import RewardModel

FAST = RewardSettings(learning_rate=1e-2, epochs=2)
SLIPS = 0.2
"""How often people say the opposite of what they mean."""

OPPOSITE = {"a": "b", "b": "a", "up": "down", "down": "up"}


def reversed_(votes: Sequence[Example], share: float = 1.0) -> list[Example]:
    rng = random.Random(7)
    return [replace(vote, label=OPPOSITE[vote.label]) if rng.random() < share else vote for vote in votes]


def padded(count: int, seed: int, longer_wins: bool) -> list[Example]:
    """Pairs of a good and a bad answer, either of them rambling on; of people who like the longer one, or the good one."""
    rng, made = random.Random(seed), []
    for number in range(seed * 1000, seed * 1000 + count):
        answers = [rng.choice(GOOD), rng.choice(BAD)]
        answers[rng.randrange(2)] += " and so on" * 3
        rng.shuffle(answers)
        first = len(answers[0]) > len(answers[1]) if longer_wins else "thanks" in answers[0]
        made.append(example(number, (answers[0], answers[1]), "a" if first else "b"))
    return made


@pytest.fixture
def taught(tiny: AdapterModel):
    def teach(name: str, votes: Sequence[Example]) -> RewardModel:
        reward = RewardModel(tiny, name)
        reward.fit(votes, FAST, seed=0)
        return reward

    return teach


LEARNT, ASKED = reversed_(taste(96, seed=1), SLIPS), reversed_(taste(400, seed=2), SLIPS)
GOLDEN = taste(40, seed=3)


def failed(reward: RewardModel, votes: Sequence[Example] = ASKED, before: dict[str, float] | None = None) -> set[str]:
    found = report(reward, LEARNT, votes, GOLDEN, before)
    return {gate.name for gate in reward_gates("judge", found, GateSettings()) if not gate.passed}


def test_one_that_learnt_what_people_like_passes_all(taught):
    assert failed(taught("judge", LEARNT)) == set()


def test_one_that_learnt_the_opposite_of_what_people_like_foretells_less_than_the_majority_does(taught):
    assert "judge_accuracy" in failed(taught("judge", reversed_(LEARNT)))


def test_one_that_has_lost_what_the_last_one_knew_is_not_kept(taught):
    before = margins_of(taught("last", LEARNT), ASKED)
    assert "judge_kept" in failed(taught("lost", reversed_(LEARNT)), before=before)
    assert "judge_kept" not in failed(taught("kept", LEARNT), before=before)


def test_one_that_is_surer_than_it_is_right_is_not_calibrated(taught):
    sure = taught("judge", LEARNT)
    sure.heads.weight.data *= 10
    missed = failed(sure)
    assert "judge_calibration" in missed
    assert not {"judge_accuracy", "judge_golden"} & missed  # it is right all the same


def test_one_that_learnt_length_from_people_who_like_it_is_biased_for_those_who_do_not(taught):
    people = padded(200, 4, longer_wins=False)
    assert "judge_length_bias" in failed(taught("judge", padded(96, 5, longer_wins=True)), people)
    assert "judge_length_bias" not in failed(taught("other", padded(96, 5, longer_wins=False)), people)


def test_one_that_learnt_from_people_who_all_say_the_opposite_is_found_by_golden_items_alone(taught):
    assert failed(taught("judge", reversed_(LEARNT)), reversed_(ASKED)) == {"judge_golden"}
