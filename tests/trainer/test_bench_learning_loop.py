"""The loop of the learning bench: what passed its gates is the champion, and what did not is only measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from lora_files import publish
from vote_log import settings_for

from ops.open_log import open_log_of
from ops.registry import Registry
from ops.settings import SamplingSettings, Settings
from trainer.bench.learning import Bench, run
from trainer.inbox import Inbox
from trainer.policy import AdapterModel
from trainer.record import CycleRecord


@pytest.fixture
def settings(tmp_path: Path, tiny_folder: Path) -> Settings:
    return settings_for(tmp_path, tiny_folder).model_copy(update={"sampling": SamplingSettings(temperature=1.0, max_tokens=4)})


@dataclass
class Scripted:
    """A trainer that publishes an adapter of noise in every cycle, with the outcomes it is told."""

    settings: Settings
    model: AdapterModel
    outcomes: list[str]
    published: list[str] = field(default_factory=list)

    def cycle(self, asked: bool) -> CycleRecord:
        assert asked
        staging = self.settings.data_dir / f"staging-{len(self.published)}"
        self.model.add(staging.name)
        torch.manual_seed(len(self.published))
        for weight in self.model.weights(staging.name).values():
            weight.normal_(std=0.3)
        self.model.save(staging.name, staging)
        self.published.append(publish(Registry(self.settings.adapters_dir), staging).id)
        return CycleRecord(
            cycle=len(self.published),
            outcome=self.outcomes[len(self.published) - 1],
            adapter=self.published[-1],
            parent="base",
            votes=20,
            new_votes=20,
            raters=1,
            finished=0.0,
        )


def test_an_adapter_that_passed_is_the_champion_of_the_next_round_and_one_that_did_not_is_measured_alone(settings, tiny):
    trainer = Scripted(settings, tiny, ["published", "rejected"])
    with open_log_of(settings) as log:
        bench = Bench(settings, log, trainer, people=10, adversaries=0.0, questions=60)
        first, second = bench.round(20), bench.round(20)
        inbox = Inbox(log, settings.project)
        inbox.refresh()
        batch = inbox.batch({})
    assert (first["votes"], second["votes"], len(batch.votes)) == (20, 40, 40)
    assert batch.champion == trainer.published[0]
    answered = [{c.exposure.adapter for c in vote.completions} for vote in sorted(batch.votes, key=lambda vote: vote.time)]
    assert set().union(*answered[:20]) == {"base"}
    assert set().union(*answered[20:]) == {"base", trainer.published[0]}
    assert first["candidate"] == first["champion"] == second["champion"]
    assert first["champion"]["kl"] > 0.5  # it is not the base
    assert second["candidate"]["kl"] != second["champion"]["kl"]


def test_a_run_of_the_real_trainer_tells_every_round_beside_the_start(settings):
    told: list[int] = []
    measured = run(
        settings,
        votes=30,
        votes_per_round=20,
        people=10,
        adversaries=0.2,
        questions=60,
        best_of=True,
        on_round=lambda each: told.append(each["votes"]),
    )
    assert told == [each["votes"] for each in measured["rounds"]] == [20, 30]
    assert measured["start"]["win_rate"] == 0.5
    assert measured["start"]["kl"] == 0.0
    assert [each["outcome"] for each in measured["rounds"]] == ["no_signal", "no_signal"]  # all its answers are nonsense
    assert measured["rounds"][1]["champion"] == measured["start"]
    assert set(measured["best_of"]) == {"gold 4", "gold 16"}
