from __future__ import annotations

import math
import random

import pytest
import torch

from feedback.events import Message
from ops.settings import RewardSettings
from trainer.batches import TokenBatch
from trainer.examples import Example, prompt_hash
from trainer.learner import TrainingDiverged
from trainer.likelihood import SIDES, Likelihood, rao_kupper
from trainer.report import accuracy, majority_margins, report, tfidf_margins
from trainer.reward import RewardModel
from trainer.surprise import SurpriseHead, surprises

GOOD, BAD = ("yes, thanks", "thanks a lot, yes", "no, thanks"), ("ugh, yes", "ugh ugh, no", "yes, ugh")
FAST = RewardSettings(learning_rate=1e-2, epochs=4)


def example(number: int, answers: tuple[str, ...], label: str, rater: str | None = None) -> Example:
    prompt = (Message(role="user", content=f"question {number}?"),)
    return Example(
        f"f{number}", float(number), rater or f"r{number}", prompt, prompt_hash(prompt), answers, (True,) * len(answers), label
    )


def taste(count: int, seed: int) -> list[Example]:
    """Pairs and, one in four, thumbs of people who like GOOD."""
    rng, made = random.Random(seed), []
    for number in range(seed * 1000, seed * 1000 + count):
        good, bad, first = rng.choice(GOOD), rng.choice(BAD), rng.random() < 0.5
        if number % 4 == 0:
            made.append(example(number, (good if first else bad,), "up" if first else "down"))
        else:
            made.append(example(number, (good, bad) if first else (bad, good), "a" if first else "b"))
    return made


def test_the_three_outcomes_of_a_pair_are_all_there_is():
    deltas = torch.tensor([-6.0, -1.0, 0.0, 0.3, 4.0])
    for width in (0.01, 0.5, 2.0):
        assert rao_kupper(deltas, torch.tensor(width)).exp().sum(-1) == pytest.approx(torch.ones(5), abs=1e-5)


def test_equal_answers_and_a_width_of_ln_2_make_each_outcome_a_third():
    probabilities = rao_kupper(torch.tensor(0.0), torch.tensor(math.log(2))).exp()
    assert probabilities.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_the_side_with_the_higher_score_wins_more_often():
    a, tie, b = rao_kupper(torch.tensor(1.0), torch.tensor(0.5)).exp().tolist()
    assert a == pytest.approx(1 / (1 + math.exp(-0.5)))
    assert b == pytest.approx(1 / (1 + math.exp(1.5)))
    assert tie == pytest.approx(1 - a - b)


def test_both_bad_is_a_tie_and_two_half_weight_thumbs_down():
    likelihood, scores = Likelihood(), torch.tensor([[0.7, -0.2]])
    tie, one = torch.tensor([SIDES.index("tie")]), torch.ones(1)
    as_tie = likelihood.pair_loss(scores, tie, 0 * one, thumb_weight=0.5)
    as_bad = likelihood.pair_loss(scores, tie, one, thumb_weight=0.5)
    slope = math.log1p(math.exp(0.5413))  # 1 to four digits
    down = sum(math.log1p(math.exp(slope * score)) for score in (0.7, -0.2))
    assert (as_bad - as_tie).item() == pytest.approx(0.5 * 0.5 * down, rel=1e-5)


def test_a_thumb_up_is_the_likelier_the_higher_the_score():
    likelihood = Likelihood()
    loss = likelihood.thumb_loss(torch.tensor([0.0, 2.0]), torch.ones(2))
    assert loss[0].item() == pytest.approx(math.log(2))
    assert loss[1].item() == pytest.approx(math.log1p(math.exp(-2)), rel=1e-3)


def test_before_any_vote_every_score_is_zero(tiny):
    scores = RewardModel(tiny, "reward").score_examples([example(1, ("yes", "a longer no"), "a")])
    assert scores[0].tolist() == [0.0, 0.0]


def test_it_learns_a_planted_preference_and_beats_the_majority_on_other_peoples_votes(tiny):
    reward = RewardModel(tiny, "reward")
    learnt, held_out = taste(48, seed=1), taste(40, seed=2)
    losses = reward.fit(learnt, FAST, seed=0)
    figures = report(reward, learnt, held_out)
    assert losses[-1] < losses[0]
    assert (figures.votes, figures.n, figures.nll_n) == (48, 40, 40)
    assert figures.accuracy >= 0.9 > figures.majority
    assert figures.tfidf >= 0.9
    assert figures.nll < math.log(2)


def test_one_seed_gives_one_model_and_it_survives_being_saved(tiny, tmp_path):
    reward = RewardModel(tiny, "reward")
    reward.fit(taste(16, seed=1), FAST, seed=3)
    scores = reward.score_examples(taste(8, seed=2))
    reward.save(tmp_path / "reward")
    tiny.remove("reward")
    loaded = RewardModel(tiny, "reward", source=tmp_path / "reward")
    for before, after in zip(scores, loaded.score_examples(taste(8, seed=2)), strict=True):
        assert torch.equal(before, after)
    assert loaded.likelihood.width == reward.likelihood.width
    again = RewardModel(tiny, "again")
    tiny.remove("again")
    tiny.remove("reward")
    again = RewardModel(tiny, "reward")
    again.fit(taste(16, seed=1), FAST, seed=3)
    assert torch.equal(torch.cat(again.score_examples(taste(8, seed=2))), torch.cat(scores))


def test_a_score_does_not_depend_on_what_is_scored_beside_it(tiny):
    reward = RewardModel(tiny, "reward")
    reward.fit(taste(8, seed=1), FAST, seed=0)
    short, long = example(1, ("yes",), "up"), example(2, ("a much longer answer, thanks for asking",), "up")
    together = reward.score_examples([short, long])
    assert reward.score_examples([short])[0].tolist() == pytest.approx(together[0].tolist(), abs=1e-5)


def test_teaching_the_reward_model_leaves_the_judge_and_the_base_alone(tiny):
    judge, reward = RewardModel(tiny, "judge"), RewardModel(tiny, "reward")
    base = {name: value.clone() for name, value in tiny.model.state_dict().items() if "lora" not in name}
    adapter = {name: value.clone() for name, value in tiny.weights("judge").items()}
    reward.fit(taste(8, seed=1), FAST, seed=0)
    assert all(torch.equal(value, tiny.weights("judge")[name]) for name, value in adapter.items())
    assert all(torch.equal(value, tiny.model.state_dict()[name]) for name, value in base.items())
    assert judge.head.weight.abs().sum() == 0


def test_always_taking_the_first_answer_is_learnt_as_a_bias_and_not_as_a_taste(tiny):
    rng = random.Random(0)
    votes = [example(n, tuple(rng.sample(GOOD + BAD, 2)), "a") for n in range(48)]
    reward = RewardModel(tiny, "reward")
    reward.fit(votes, FAST, seed=0)
    leads = [float(score[0] - score[1]) for score in reward.score_examples(votes)]
    assert reward.likelihood.position > 0.25
    assert abs(sum(leads) / len(leads)) < 2 * reward.likelihood.position


def test_many_ties_widen_the_tie(tiny):
    votes = [example(n, (GOOD[n % 3], BAD[n % 3]), "tie") for n in range(48)]
    reward = RewardModel(tiny, "reward")
    before = reward.likelihood.width.item()
    reward.fit(votes, FAST, seed=0)
    assert reward.likelihood.width.item() > before


def test_a_loss_that_is_no_number_ends_the_training(tiny):
    settings = RewardSettings(learning_rate=1e30, epochs=2, batch_size=4)
    with pytest.raises(TrainingDiverged, match="'reward'"):
        RewardModel(tiny, "reward").fit(taste(16, seed=1), settings, seed=0)


def test_without_votes_there_is_nothing_to_learn_and_nothing_to_report(tiny):
    reward = RewardModel(tiny, "reward")
    assert reward.fit([], FAST, seed=0) == []
    figures = report(reward, [], [])
    assert (figures.n, figures.accuracy, figures.majority, figures.nll) == (0, None, None, None)


def test_the_majority_says_what_most_votes_of_a_kind_said():
    learnt = [example(1, ("x", "y"), "b"), example(2, ("x", "y"), "b"), example(3, ("x", "y"), "a"), example(4, ("x",), "up")]
    tested = [example(5, ("x", "y"), "a"), example(6, ("x", "y"), "b"), example(7, ("x", "y"), "b"), example(8, ("x",), "down")]
    assert accuracy(majority_margins(learnt, tested), tested) == 0.5  # right on the two "b" of four
    assert accuracy([0.0], tested[:1]) == 0.5


def test_the_word_baseline_reads_words_and_not_the_side_they_stand_on():
    learnt = [example(n, (GOOD[n % 3], BAD[n % 3]), "a") for n in range(9)]
    assert accuracy(tfidf_margins(learnt, taste(20, seed=3)), taste(20, seed=3)) == 0.5  # one class: it knows nothing
    mixed = [*learnt, example(9, ("ugh",), "down")]
    assert accuracy(tfidf_margins(mixed, taste(20, seed=3)), taste(20, seed=3)) == 1.0


def test_the_surprises_of_an_answer_are_the_base_models_and_training_does_not_change_them(tiny):
    batch = TokenBatch.pack([[5, 6], [5, 6, 7]], [[40, 41, 42], []])
    before = surprises(tiny, batch)
    logs = tiny.model(input_ids=torch.tensor([[5, 6, 40, 41, 42]])).logits[0, 1:4].log_softmax(-1)
    said = logs[range(3), [40, 41, 42]].detach()
    excess = said - (logs.exp() * logs).sum(-1).detach()
    expected = [said.mean(), said.min(), excess.mean(), excess.min()]
    assert before[0].tolist() == pytest.approx([float(value) for value in expected], abs=1e-4)
    assert before[1].tolist() == [0, 0, 0, 0]
    RewardModel(tiny, "reward").fit(taste(8, seed=1), FAST, seed=0)
    assert torch.equal(surprises(tiny, batch), before)


def test_the_scale_of_the_surprises_is_set_once(tiny):
    head = SurpriseHead()
    assert head(torch.ones(2, 4)).tolist() == [0, 0]
    head.measure(torch.tensor([[0.0] * 4, [2.0] * 4]))
    head.weight.data.fill_(0.25)
    scale = math.sqrt(2)  # the standard deviation of 0 and 2
    assert head(torch.full((1, 4), 1 + scale)).tolist() == pytest.approx([1.0])
    head.measure(torch.full((3, 4), 9.0))
    assert head(torch.full((1, 4), 1 + scale)).tolist() == pytest.approx([1.0])
