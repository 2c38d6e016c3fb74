"""Style goals: heads of their own, which only reinforcement learning sees."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from judgements import BAD, GOOD, example, taste
from simulated import encoded
from structlog.testing import capture_logs
from vote_log import events

from feedback.events import CompletionCreated, Event, FeedbackSet, Message, Score, Target
from feedback.sqlite_log import SqliteLog
from ops.domain.facts import questions
from ops.models import ModelRef
from ops.settings import RewardSettings, TrainSettings
from trainer.checkpoint import Loaded, State
from trainer.curriculum import curriculum
from trainer.examples import Example, prompt_hash
from trainer.generate import generate
from trainer.goals import MIN_LABELS, REACH, Goal, NoGoal, goal_figures, learn_goal
from trainer.inbox import Inbox
from trainer.learn import keep, learn
from trainer.policy import AdapterModel
from trainer.report import report
from trainer.reward import RewardModel


def aiming(trunk: str = "adapter", **goals: float) -> RewardSettings:
    return RewardSettings(trunk=trunk, learning_rate=1e-2, epochs=1, goals=goals)


def warmth(count: int, seed: int = 7, **fields: object) -> list[Example]:
    """Scores of a metric that is high for what people dislike: nobody can take the one for the other."""
    rng, made = random.Random(seed), []
    for number in range(seed * 1000, seed * 1000 + count):
        good = number % 2 == 0
        made.append(
            example(number, (rng.choice(GOOD if good else BAD),), "scored", metric="warmth", value=0.1 if good else 0.9, **fields)
        )
    return made


def rows(reward: RewardModel, *texts: str):
    return [row for number, text in enumerate(texts) for row in reward._rows(example(number, (text,), "up"))]


def taught(tiny: AdapterModel, votes: list[Example], settings: RewardSettings, name: str = "reward") -> RewardModel:
    reward = RewardModel(tiny, name)
    reward.fit(votes, settings, seed=0)
    return reward


@pytest.mark.parametrize("trunk", ["frozen", "adapter"])
def test_scores_of_a_goal_leave_what_people_prefer_as_it_is_to_the_bit(tiny, trunk):
    plain = taught(tiny, taste(12, seed=1), aiming(trunk))
    answers = rows(plain, *GOOD, *BAD)
    scores, cautious, tensors = plain.score(answers), plain.cautious(answers), plain.heads.state_dict() | tiny.weights("reward")
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    tiny.remove("reward")
    votes = taste(12, seed=1)
    for number, label in enumerate(warmth(24)):
        votes.insert(2 * number, label)
    aimed = taught(tiny, votes, aiming(trunk, warmth=1.0))
    for name, tensor in (aimed.heads.state_dict() | tiny.weights("reward")).items():
        assert torch.equal(tensor, kept[name])
    assert torch.equal(aimed.score(answers), scores)
    assert not torch.equal(aimed.cautious(answers), cautious)
    assert aimed.likelihood.metrics == set()


def test_scores_of_a_metric_that_is_no_goal_teach_the_latent_score(tiny):
    votes = [*taste(16, seed=1), *warmth(16)]
    with_them = taught(tiny, votes, aiming(other=1.0))
    without = taught(tiny, taste(16, seed=1), aiming(), "alone")
    assert with_them.likelihood.metrics == {"warmth"}
    answers = rows(with_them, *GOOD, *BAD)
    assert not torch.allclose(with_them.score(answers), without.score(answers), atol=0.1)


def test_the_weights_sign_says_whether_more_or_less_of_it_is_wanted_and_its_size_how_much(tiny):
    pulls = {}
    for weight in (1.0, -0.5):
        reward = taught(tiny, [*taste(8, seed=1), *warmth(40)], aiming(warmth=weight))
        answers = rows(reward, *GOOD, *BAD)
        opinions = reward.opinions(answers)
        pulls[weight] = reward.cautious(answers) - (opinions.mean(1) - opinions.std(1))
        tiny.remove("reward")
    assert pulls[1.0][3:].mean() > 0 > pulls[1.0][:3].mean()  # BAD is warm
    assert pulls[-0.5][:3].mean() > 0 > pulls[-0.5][3:].mean()
    assert pulls[-0.5].std() < pulls[1.0].std() * 0.8


def scoring(*weights: float, mean: float, std: float, weight: float) -> Goal:
    """A goal of which each head adds up the four surprises times one number."""
    goal = Goal(4)
    goal.heads.weight.data[:] = torch.tensor(weights)[:, None]
    for name, value in (("mean", mean), ("std", std), ("weight", weight)):
        getattr(goal, name).fill_(value)
    return goal


def test_a_pull_is_the_weight_times_standard_deviations_less_what_the_heads_are_apart():
    readings = torch.tensor([[0.25] * 4, [1.0] * 4])  # the heads say 0, 1, 2 and 0, 4, 8: 1 ± 1 and 4 ± 4
    assert scoring(0, 1, 2, mean=-1, std=4, weight=0.5).pull(readings).tolist() == [0.5 * (2 - 1) / 4, 0.5 * (5 - 4) / 4]
    assert scoring(0, 1, 2, mean=-1, std=4, weight=-0.5).pull(readings).tolist() == [-0.5 * (2 + 1) / 4, -0.5 * (5 + 4) / 4]
    assert scoring(0, 1, 2, mean=-1, std=4, weight=0).pull(readings).tolist() == [0, 0]
    far = torch.tensor([[100.0] * 4, [-100.0] * 4])
    assert scoring(1, 1, 1, mean=0, std=1, weight=0.5).pull(far).tolist() == [0.5 * REACH, -0.5 * REACH]


def test_nobody_has_too_much_to_say_about_a_goal(tiny):
    flood = []
    for number in range(9000, 9200):
        good = number % 2 == 0
        text, value = (GOOD if good else BAD)[number % 3], 0.9 if good else 0.1  # the opposite of what all others say
        flood.append(example(number, (text,), "scored", "flood", metric="warmth", value=value))
    reward = taught(tiny, [*taste(16, seed=1), *warmth(40), *flood], aiming(warmth=1.0))
    pull = reward.goals["warmth"].pull(reward._readings(rows(reward, *GOOD, *BAD)))
    assert pull[3:].mean() > 0 > pull[:3].mean()


def test_who_is_wrong_half_the_time_is_not_listened_to():
    labels = [example(n, ("x",), "scored", metric="m", value=float(n % 2), weight=1.0, flip=0.5) for n in range(40)]
    readings = torch.tensor([[float(n % 2)] * 4 for n in range(40)])
    with pytest.raises(NoGoal, match="no better than their mean"):
        learn_goal(labels, readings, 1.0)
    believed = [example(n, ("x",), "scored", metric="m", value=float(n % 2), weight=1.0, flip=0.1) for n in range(40)]
    assert learn_goal(believed, readings, 1.0).flip == pytest.approx(0.1)


def test_who_is_found_to_vote_reversed_is_heard_so_on_goals_too(tiny):
    class Doubted:
        def heard(self, rater: str) -> float:
            return 0.25

    reward = RewardModel(tiny, "reward")
    reward.fit([*taste(16, seed=1), *warmth(40)], aiming(warmth=1.0), seed=0, ask=lambda foretold, without: Doubted())
    assert float(reward.goals["warmth"].flip) == pytest.approx(0.25)


def test_a_goal_that_too_little_is_known_of_is_left_out_and_the_report_says_why(tiny):
    same = [example(n, (GOOD[n % 3],), "scored", metric="same", value=0.5) for n in range(300, 330)]
    rng = random.Random(1)
    noise = [example(n, (rng.choice(GOOD + BAD),), "scored", metric="noise", value=rng.random()) for n in range(400, 440)]
    votes = [*taste(16, seed=1), *warmth(MIN_LABELS - 1), *same, *noise]
    reward = taught(tiny, votes, aiming(warmth=1.0, same=0.5, noise=-1.0, never=2.0))
    answers = rows(reward, *GOOD)
    opinions = reward.opinions(answers)
    assert torch.equal(reward.cautious(answers), opinions.mean(1) - opinions.std(1))
    figures = report(reward, votes, taste(8, seed=2)).goals
    assert {name: (goal.weight, goal.labels) for name, goal in figures.items()} == {
        "never": (2.0, 0),
        "noise": (-1.0, 40),
        "same": (0.5, 30),
        "warmth": (1.0, 19),
    }
    assert figures["warmth"].left_out == "19 labels, it takes 20"
    assert figures["same"].left_out == "all of its 30 labels say the same"
    assert figures["noise"].left_out.startswith("it foretells its labels no better than their mean does (")
    assert report(taught(tiny, taste(16, seed=1), aiming(), "plain"), votes, []).goals == {}


def test_goals_survive_being_saved_and_the_next_training_has_those_of_its_own_settings(tiny, tmp_path):
    votes = [*taste(8, seed=1), *warmth(20)]
    reward = taught(tiny, votes, aiming(warmth=-0.5))
    cautious = reward.cautious(rows(reward, *GOOD, *BAD))
    reward.save(tmp_path / "reward")
    reward.save(tmp_path / "again")
    assert (tmp_path / "reward" / "head.safetensors").read_bytes() == (tmp_path / "again" / "head.safetensors").read_bytes()
    loaded = RewardModel(tiny, "loaded", source=tmp_path / "reward")
    assert torch.equal(loaded.cautious(rows(loaded, *GOOD, *BAD)), cautious)
    loaded.fit(votes, aiming(warmth=2.0, never=1.0), seed=0)  # another weight, and another goal
    assert (float(loaded.goals["warmth"].weight), set(loaded.left_out)) == (2.0, {"never"})
    loaded.fit(votes, aiming(), seed=0)  # the goal is gone, its scores are like any figure's
    assert (loaded.goals, loaded.left_out, loaded.likelihood.metrics) == ({}, {}, {"warmth"})
    loaded.save(tmp_path / "without")
    assert RewardModel(tiny, "without", source=tmp_path / "without").goals == {}


def test_a_goals_figures_stand_beside_their_mean_and_the_answers_lengths():
    goal = scoring(0, 0, 0, mean=0, std=1, weight=0.5)  # it says one half of everything
    learnt = [example(n, ("x",), "scored", metric="m", value=0.25) for n in range(3)]
    labels = [example(n, ("x" * n,), "scored", metric="m", value=value) for n, value in ((5, 0.0), (6, 0.5), (7, 1.0))]
    figures = goal_figures(goal, torch.ones(3, 4), labels, learnt)
    assert (figures.labels, figures.n, figures.rank, figures.length_rank) == (3, 3, None, pytest.approx(1))
    assert figures.nll == pytest.approx(math.log(2))
    assert figures.mean_nll == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)  # half and half of the two, on the mean
    slope = scoring(1, 1, 1, mean=0, std=1, weight=0.5)
    assert goal_figures(slope, torch.tensor([[2.0] * 4, [1.0] * 4, [0.0] * 4]), labels, learnt).rank == pytest.approx(-1)


def test_goals_are_in_no_other_figure_of_the_report(tiny):
    votes, others = [*taste(24, seed=1), *warmth(40)], taste(16, seed=2)
    reward = taught(tiny, votes, aiming(warmth=1.0))
    alone, beside = report(reward, taste(24, seed=1), others), report(reward, votes, [*others, *warmth(20, seed=8)])
    assert beside.goals["warmth"].n == 20
    assert beside.goals["warmth"].nll < beside.goals["warmth"].mean_nll
    assert beside.goals["warmth"].rank > 0.8
    ours = {name: figure for name, figure in beside.to_json().items() if name != "goals"}
    assert ours == {name: figure for name, figure in alone.to_json().items() if name != "goals"}


# from the log on


def scored(votes: int) -> list[Event]:
    """Votes, and after them a score of warmth by each vote's rater of its first answer."""
    said = events(votes)
    answers = {event.data.completion_id: event.data.text.answer for event in said if isinstance(event.data, CompletionCreated)}
    made = list(said)
    for number, vote in enumerate(event.data for event in said if isinstance(event.data, FeedbackSet)):
        shown = vote.target.completion_ids[0]
        judgement = Score(metric="warmth", value=0.9 if "ugh" in answers[shown] else 0.1)
        score = FeedbackSet(
            feedback_id=f"s{number}", target=Target(completion_ids=(shown,)), rater=vote.rater, judgement=judgement
        )
        made.append(Event(id=f"s{number}", time=500.0 + number, project="default", key="conversation", data=score))
    return made


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    log = SqliteLog(tmp_path / "log.db")
    log.append(scored(96))
    inbox = Inbox(log, "default")
    inbox.refresh()
    yield inbox
    log.close()


def test_scores_of_goals_do_not_crowd_out_the_votes_that_are_learnt_again(inbox: Inbox):
    old = inbox.batch(inbox.batch({}).offsets)
    seeds = {"reward": 1, "judge": 2}
    for name, lessons in curriculum(old, RewardSettings(replay=12, goals={"warmth": 1.0}), seeds).lessons.items():
        assert [sum(bool(lesson.metric) == labels for lesson in lessons) for labels in (False, True)] == [12, 12], name
    without = curriculum(old, RewardSettings(replay=12), seeds).lessons["reward"]
    assert len(without) == 12


def test_a_cycle_learns_goals_keeps_them_and_tells_of_them(inbox: Inbox, tiny: AdapterModel, tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.learn.MOST_TESTED", 20)
    settings = TrainSettings(reward=aiming(warmth=-0.5, never=1.0))
    before, batch = Loaded(State(), "", None, None, None), inbox.batch({})
    with capture_logs() as logs:
        learnt = learn(tiny, batch, before, settings, seed=0)
    assert {(line["goal"], line["reason"]) for line in logs} == {("never", "0 labels, it takes 20")}
    for side in (learnt.reward, learnt.judge):
        assert side.report.n == 20  # scores came later than all votes, and took no vote's place
        assert side.report.goals["warmth"].n == 20
        assert side.report.goals["never"].left_out
        assert side.report.goals["warmth"].labels + side.report.votes == len(side.lessons)
    answers = rows(learnt.reward.model, *GOOD, *BAD)
    cautious = learnt.reward.model.cautious(answers)
    keep(learnt, tmp_path / "kept")
    for name in tiny.names:
        tiny.remove(name)
    again = learn(tiny, batch, before, settings, seed=0, done=tmp_path / "kept")
    assert again.reward.to_json() == learnt.reward.to_json()
    assert learnt.reward.model.people
    assert again.reward.model.people == learnt.reward.model.people
    assert torch.equal(again.reward.model.cautious(answers), cautious)


# on a model that can write


@pytest.fixture(scope="module")
def writer(starter: ModelRef) -> AdapterModel:
    return AdapterModel.load(starter.path, rank=16, alpha=32)


def brevity(model: AdapterModel, asked: list[str], seed: int, raters: str) -> list[Example]:
    """What twelve raters, each with their own noise, think of how brief the base's answers are: 1 at no word, 0 at thirty."""
    rng, made = random.Random(seed), []
    said = generate(model, "base", encoded(model, asked), n=1, temperature=1.0, max_new_tokens=64, seed=seed)
    for number, (question, [answer]) in enumerate(zip(asked, said, strict=True)):
        text, prompt = model.decode_answer(answer.tokens), (Message(role="user", content=question),)
        value = min(1.0, max(0.0, 1 - len(text.split()) / 30 + rng.gauss(0, 0.1)))
        made.append(
            Example(
                feedback_id=f"{raters}-{number}",
                time=float(number),
                rater=f"{raters}{number % 12}",
                prompt=prompt,
                prompt_hash=prompt_hash(prompt),
                answers=(text,),
                ended=(answer.ended,),
                label="scored",
                metric="brevity",
                value=value,
            )
        )
    return made


def test_scores_of_brevity_put_short_answers_of_others_before_long_ones(writer: AdapterModel):
    asked = random.Random(0).sample([question.text for question in questions("train")], 110)
    labels, others = brevity(writer, asked[:60], 1, "a"), brevity(writer, asked[60:], 2, "b")
    rewards = {}
    for weight in (1.0, -1.0):
        reward = taught(writer, labels, aiming(brevity=weight), f"brevity_{weight > 0}")
        rewards[weight] = reward.cautious([row for label in others for row in reward._rows(label)])
        figures = report(reward, labels, others).goals["brevity"]
        assert (figures.labels, figures.n, figures.left_out) == (60, 50, "")
        assert figures.rank > 0.55
        assert figures.nll < figures.mean_nll - 0.05
    words = torch.tensor([float(len(label.answers[0].split())) for label in others])
    short = words < words.median()
    for weight, earned in rewards.items():
        lead = weight * (earned[short].mean() - earned[~short].mean())
        assert lead > 0.5  # of a standard deviation, in the direction that was asked for
