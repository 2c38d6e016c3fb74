from __future__ import annotations

import math
import random

import pytest
import torch
from judgements import BAD, GOOD, example, taste
from safetensors.torch import load_file, save_file
from structlog.testing import capture_logs

from ops.settings import RewardSettings
from trainer.adapter_files import AdapterFileError
from trainer.batches import TokenBatch
from trainer.heads import Heads, bootstrap
from trainer.learn import begun
from trainer.learner import TrainingDiverged
from trainer.report import report
from trainer.reward import HEAD_FILE, RewardModel
from trainer.surprise import readings, surprises

FAST = RewardSettings(learning_rate=1e-2, epochs=4)


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
    assert figures.measures.auc >= 0.9


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
    assert judge.heads.weight.abs().sum() == 0


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


def test_one_pass_gives_the_mean_state_beside_the_surprises(tiny):
    batch = TokenBatch.pack([[5, 6], [5, 6, 7, 8], [9]], [[40, 41, 42], [43], []])
    states = tiny.response_states("base", batch).sum(1) / torch.tensor([[3.0], [1.0], [1.0]])
    assert torch.allclose(readings(tiny, batch)[0], states, atol=1e-5)


def test_the_scale_of_the_readings_is_set_once():
    heads = Heads(0)
    assert heads(torch.ones(2, 4)).tolist() == [[0, 0, 0]] * 2
    heads.measure(torch.tensor([[0.0] * 4, [2.0] * 4]))
    heads.weight.data.fill_(0.25)
    scale = math.sqrt(2)  # the standard deviation of 0 and 2
    assert heads(torch.full((1, 4), 1 + scale))[0].tolist() == pytest.approx([1.0] * 3)
    heads.measure(torch.full((3, 4), 9.0))
    assert heads(torch.full((1, 4), 1 + scale))[0].tolist() == pytest.approx([1.0] * 3)


def test_each_vote_is_left_out_of_one_head_and_always_of_the_same_one():
    votes = [example(n, ("x",), "up") for n in range(300)]
    takes = bootstrap(votes)
    assert takes.sum(1).tolist() == [3.0] * 300
    assert all(sorted(row) == [0.0, 1.5, 1.5] for row in takes.tolist())
    assert 70 < (takes == 0).sum(0).min() <= (takes == 0).sum(0).max() < 130
    assert torch.equal(bootstrap(votes[100:200]), takes[100:200])


def test_where_the_heads_differ_the_cautious_score_is_lower(tiny):
    reward = RewardModel(tiny, "reward")
    reward.heads.weight.data[:, 0] = torch.tensor([0.0, 1.0, 2.0])
    rows = reward._rows(example(1, ("yes, thanks",), "up"))
    opinions = reward.opinions(rows)[0]
    assert opinions.std() > 0
    assert reward.score(rows).item() == pytest.approx(opinions.mean().item())
    assert reward.cautious(rows).item() == pytest.approx((opinions.mean() - opinions.std()).item())


def test_no_nuisance_ever_reaches_a_score(tiny):
    reward = RewardModel(tiny, "reward")
    reward.fit(taste(16, seed=1), FAST, seed=0)
    rows = [row for vote in taste(8, seed=2) for row in reward._rows(vote)]
    scores, cautious = reward.score(rows), reward.cautious(rows)
    reward.likelihood.know(["resolved"])
    for value in [*reward.likelihood.parameters(), *reward.likelihood.buffers()]:
        value.data.fill_(3.0)
    assert torch.equal(reward.score(rows), scores)
    assert torch.equal(reward.cautious(rows), cautious)


def test_it_learns_from_rankings_corrections_figures_and_flags(tiny):
    rng, votes = random.Random(4), []
    for n in range(48):
        good, bad = rng.choice(GOOD), rng.choice(BAD)
        kind = n % 4
        if kind == 0:
            votes.append(example(n, (bad, good, rng.choice(BAD)), "ranked", ranks=(2, 1, 2)))
        elif kind == 1:
            votes.append(example(n, (bad, good), "b", side_by_side=False))
        elif kind == 2:
            liked = n % 8 == 2
            votes.append(example(n, (good if liked else bad,), "scored", metric="kept", value=0.9 if liked else 0.1))
        else:
            votes.append(example(n, (bad,), "flagged"))
    reward = RewardModel(tiny, "reward")
    reward.fit(votes, RewardSettings(learning_rate=1e-2, epochs=1), seed=0)
    pairs = [vote for vote in taste(40, seed=2) if vote.is_pair]
    assert report(reward, votes, pairs).accuracy >= 0.9
    assert reward.likelihood.metrics == {"kept"}


def test_nothing_that_is_kept_grows_with_the_raters(tiny, tmp_path):
    """Their offsets are nuisances: they help to learn, and no answer's score has them."""
    kept = []
    for raters in (1, 9):
        reward = RewardModel(tiny, "reward")
        mild = [example(n, (BAD[n % 3],), "up", rater=f"mild-{n % raters}") for n in range(18)]
        reward.fit([*taste(32, seed=1), *mild], FAST, seed=0)
        reward.save(tmp_path / str(raters))
        kept.append({name: tensor.shape for name, tensor in load_file(tmp_path / str(raters) / HEAD_FILE).items()})
        tiny.remove("reward")
    assert kept[0] == kept[1]


def test_the_heads_of_another_model_are_refused_by_name(tiny, tmp_path):
    reward = RewardModel(tiny, "reward")
    reward.save(tmp_path / "reward")
    save_file({"heads.weight": torch.zeros(1, 2)}, tmp_path / "reward" / "head.safetensors")
    tiny.remove("reward")
    with pytest.raises(AdapterFileError, match=r"head\.safetensors: not the heads of this model"):
        RewardModel(tiny, "reward", source=tmp_path / "reward")
    assert tiny.names == ()


def test_what_another_version_learnt_is_no_start_and_the_model_learns_anew(tiny, tmp_path):
    reward = RewardModel(tiny, "reward")
    reward.fit(taste(16, seed=1), FAST, seed=0)
    reward.save(tmp_path)
    tiny.remove("reward")
    assert begun(tiny, "reward", tmp_path).warm
    tiny.remove("reward")
    heads = load_file(tmp_path / HEAD_FILE)
    heads["heads.weight"] = torch.zeros(3, 5)
    save_file(heads, tmp_path / HEAD_FILE)
    with capture_logs() as logs:
        assert not begun(tiny, "reward", tmp_path).warm
    assert [(line["event"], line["model"]) for line in logs] == [("reward_model_learns_anew", "reward")]
