"""DPO, KTO and SFT on votes: what they learn from, what they change, where they end."""

from __future__ import annotations

import math

import pytest
import torch
from noise import noisy
from vote_log import BAD, completion, events, logged, settings_for, thumb

from feedback.events import CompletionCreated, Event, Preference
from feedback.join import Joiner, Vote
from feedback.log import Position, Record
from ops.registry import Registry
from ops.settings import TrainSettings
from trainer.learner import NothingToLearn, TrainingDiverged
from trainer.offline import drawn, learn_offline, lessons
from trainer.policy import AdapterModel
from trainer.process import run_cycle

ALGORITHMS = pytest.mark.parametrize("algorithm", ["dpo", "kto", "sft"])


def votes_of(facts: list[Event]) -> list[Vote]:
    joiner = Joiner("default")
    for place, event in enumerate(facts):
        topic = "completions" if isinstance(event.data, CompletionCreated) else "feedback"
        joiner.add(Record(Position(topic, 0, place), event))
    return joiner.votes()


VOTES = votes_of(events(24))


def learn(model: AdapterModel, algorithm: str, votes: list[Vote] = VOTES, **settings: object) -> list[dict[str, float]]:
    return trained(model, algorithm, votes, **settings)[0]


def trained(model: AdapterModel, algorithm: str, votes: list[Vote] = VOTES, **settings: object) -> tuple[list, str]:
    group = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-2, **settings}
    weights = dict.fromkeys((vote.feedback_id for vote in votes), 1.0)
    chosen = TrainSettings.model_validate({algorithm: group})
    return learn_offline(model, votes, weights, algorithm=algorithm, settings=chosen, seed=0)


@ALGORITHMS
def test_the_policy_alone_changes_and_the_same_seed_gives_the_same(tiny: AdapterModel, algorithm: str):
    tiny.add("champion")
    noisy(tiny, "champion")
    before = {name: parameter.detach().clone() for name, parameter in tiny.model.named_parameters()}
    random = torch.random.get_rng_state()
    learnt = []
    for _ in range(2):
        tiny.add("policy", source="champion")
        steps = learn(tiny, algorithm)
        assert len(steps) >= 2
        assert all(math.isfinite(value) for step in steps for value in step.values())
        learnt.append({name: weight.clone() for name, weight in tiny.weights("policy").items()})
        tiny.remove("policy")
    assert all(torch.equal(weight, learnt[1][name]) for name, weight in learnt[0].items())
    assert any((weight - tiny.weights("champion")[name]).abs().max() > 1e-3 for name, weight in learnt[0].items())
    assert {name for name, parameter in tiny.model.named_parameters() if not torch.equal(parameter, before[name])} == set()
    assert torch.equal(torch.random.get_rng_state(), random)


def test_dpo_starts_at_no_preference_against_the_champion_and_not_against_the_base(tiny: AdapterModel):
    tiny.add("policy")
    noisy(tiny, "policy")
    for reference, at_start in (("champion", True), ("base", False)):
        [first, *_] = learn(tiny, "dpo", reference=reference, learning_rate=1e-12)
        assert (first["dpo/loss"] == pytest.approx(math.log(2), abs=1e-4)) == at_start


def test_a_twin_has_the_same_weights_and_modules_of_its_own(tiny: AdapterModel):
    tiny.add("policy")
    noisy(tiny, "policy")
    twin = tiny.twin()
    assert "lora" not in repr(twin).lower()
    assert twin.get_output_embeddings().weight is tiny.head.weight
    assert twin.get_decoder() is not tiny.decoder
    tokens = torch.tensor([[65, 66, 67]])
    with tiny.using("base"):
        assert torch.equal(twin.get_decoder()(tokens).last_hidden_state, tiny.decoder(tokens).last_hidden_state)


def test_a_row_is_drawn_as_often_as_its_vote_weighs():
    rows = [{"feedback_id": name} for name in "abcd"]
    for seed in range(20):
        chosen = "".join(sorted(row["feedback_id"] for row in drawn(rows, {"a": 2.0, "b": 0.0, "c": 0.5, "e": 9.0}, seed)))
        assert chosen in ("aa", "aac")
    halves = [len(drawn(rows[:1], {"a": 0.5}, seed)) for seed in range(200)]
    assert 70 < sum(halves) < 130
    assert len(drawn(rows, dict.fromkeys("abcd", 0.75), 3)) == 3


def test_an_answer_cut_at_its_limit_is_never_taught_as_a_whole_one():
    cut = next(vote for vote in VOTES if isinstance(vote.judgement, Preference))
    liked = "ab".index(cut.judgement.value)
    completions = list(cut.completions)
    completions[liked] = completions[liked].model_copy(update={"finish_reason": "length"})
    changed = Vote(**{**vars(cut), "completions": tuple(completions)})
    for algorithm, left in (("dpo", 0), ("sft", 0), ("kto", 1)):
        assert len(lessons([cut], algorithm)) == left + 1
        assert len(lessons([changed], algorithm)) == left  # the other one is still not liked


def test_thumbs_alone_teach_dpo_nothing(tiny: AdapterModel):
    tiny.add("policy")
    thumbs = votes_of([completion("c", "why?", BAD[0]), thumb("fb", "c", "r", 1, 2.0)])
    with pytest.raises(NothingToLearn, match="dpo learns from preferences"):
        learn(tiny, "dpo", thumbs)


def test_it_ends_in_time_and_says_so(tiny: AdapterModel):
    tiny.add("policy")
    steps, ended_by = trained(tiny, "dpo", epochs=50, time_budget_s=1e-6)
    assert (len(steps), ended_by) == (1, "time")
    assert trained(tiny, "dpo")[1] == "steps"


@ALGORITHMS
def test_a_learning_rate_that_explodes_ends_the_training_and_leaves_the_policy_alone(tiny: AdapterModel, algorithm: str):
    tiny.add("policy")
    before = {name: weight.clone() for name, weight in tiny.weights("policy").items()}
    with pytest.raises(TrainingDiverged, match=algorithm):
        learn(tiny, algorithm, learning_rate=1e30, epochs=5)
    assert all(torch.equal(weight, before[name]) for name, weight in tiny.weights("policy").items())


@ALGORITHMS
def test_a_cycle_gates_and_keeps_the_adapter_as_any_other(tmp_path, tiny_folder, algorithm: str):
    settings = settings_for(tmp_path, tiny_folder, algorithm=algorithm, **{algorithm: {"epochs": 1}})
    logged(settings, events(60))
    record = run_cycle(settings)
    assert record.outcome in ("rejected", "published")
    assert {"judge_win_rate", "kl_base", "well_formed"} <= {gate.name for gate in record.gates}
    assert f"{algorithm}/loss" in record.steps[0]
    assert record.ended_by == "steps"
    manifest = Registry(settings.adapters_dir).verify(record.adapter, max_rank=8)
    assert manifest.training["algorithm"] == algorithm
    assert manifest.training["examples"]["count"]["reward"] > 0


def test_those_who_are_found_to_vote_reversed_teach_nothing(tmp_path, tiny_folder, monkeypatch):
    """Nobody votes on what somebody else has voted on, and there are no golden items: only the answers can tell."""
    settings = settings_for(tmp_path, tiny_folder, algorithm="dpo", reward={"trunk": "frozen"})
    liars = {f"rater-{number}" for number in range(0, 24, 6)}
    facts = [reversed_vote(event) if getattr(event.data, "rater", "") in liars else event for event in events(288)]
    logged(settings, facts)
    heard = {}

    def note(model, votes, weights, **rest):
        for vote in votes:
            if vote.feedback_id in weights:
                heard.setdefault(vote.rater in liars, []).append(weights[vote.feedback_id])
        raise NothingToLearn("enough has been seen")

    monkeypatch.setattr("trainer.offline.learn_offline", note)
    assert run_cycle(settings).reason == "enough has been seen"
    assert max(heard[True]) < 0.1 * min(heard[False])


def reversed_vote(event: Event) -> Event:
    opposite = {"a": "b", "b": "a", 1: -1, -1: 1}
    judgement = event.data.judgement.model_copy(update={"value": opposite[event.data.judgement.value]})
    return event.model_copy(update={"data": event.data.model_copy(update={"judgement": judgement})})


def test_a_cycle_that_diverges_publishes_and_commits_nothing_and_says_why(tmp_path, tiny_folder):
    settings = settings_for(tmp_path, tiny_folder, algorithm="dpo", dpo={"learning_rate": 1e30})
    logged(settings, events(60))
    record = run_cycle(settings)
    assert record.outcome == "diverged"
    assert "dpo" in record.reason
    assert not Registry(settings.adapters_dir).list("default")
    assert not list(settings.trainer_dir.glob("commits/*"))
