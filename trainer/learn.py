"""From votes to two models of what people like: the reward model, and the judge that must agree with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from pydantic import TypeAdapter

from feedback.raters.population import Population
from ops.registry import GateResult
from ops.settings import TrainSettings
from trainer.adapter_files import AdapterFileError
from trainer.checkpoint import JUDGE, REWARD, Loaded
from trainer.curriculum import curriculum
from trainer.doubt import asking
from trainer.examples import Division, Example, digest, parted, unseen
from trainer.gates.reward_model import reward_gates
from trainer.inbox import Batch
from trainer.policy import AdapterModel
from trainer.report import CurvePoint, RewardReport, margins_of, report
from trainer.reward import RewardModel
from trainer.vote_curve import vote_curve

_log = structlog.get_logger(__name__)

_FIGURES = "figures.json"

MOST_TESTED = 400
"""Held-out votes, the newest ones: a standard error of 2 points, at a bounded price. Of scores of goals as many again."""

MOST_LATER = 100
"""Of these, votes that the last commit's model is tried on too."""


def seed_for(seed: int, cycle: int, what: str) -> int:
    """A seed of its own for each part of each cycle."""
    return int.from_bytes(hashlib.sha256(f"{seed} {cycle} {what}".encode()).digest()[:4], "big") >> 1


@dataclass(frozen=True)
class Taught:
    """One of the two models, what it learnt from, and how it did on the other one's people."""

    model: RewardModel
    lessons: tuple[Example, ...]
    report: RewardReport
    gates: tuple[GateResult, ...]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.model.name, "examples": digest(self.lessons), **self.report.to_json()}


@dataclass(frozen=True)
class Learnt:
    division: Division
    reward: Taught
    judge: Taught
    effective: float
    """New effective labels, see `trainer.effective`."""

    @property
    def lessons(self) -> dict[str, tuple[Example, ...]]:
        """By the models' names."""
        return {taught.model.name: taught.lessons for taught in (self.reward, self.judge)}

    @property
    def gates(self) -> list[GateResult]:
        return [*self.reward.gates, *self.judge.gates]

    @property
    def knows(self) -> bool:
        """Both know more than the majority: there is something to learn from, and somebody to check it.

        What else a model fails (`trainer.gates.reward_model`) keeps the adapter that learns from it from being served.
        """
        return self.reward.gates[0].passed and self.judge.gates[0].passed


def learn(
    model: AdapterModel, batch: Batch, before: Loaded, settings: TrainSettings, seed: int, done: Path | None = None
) -> Learnt:
    """Teach both from the batch's votes, going on from the last commit's models if votes are still divided as they were.

    ``done`` is a folder that `keep` has written in this very lesson, before the trainer was killed: then nothing is taught again.
    """
    cycle = before.state.cycle + 1
    plan = curriculum(batch, settings.reward, {name: seed_for(seed, cycle, name) for name in (REWARD, JUDGE)})
    division = plan.division
    if done is not None:
        reward, judge = (_recall(model, done / name, plan.lessons[name]) for name in (REWARD, JUDGE))
        return Learnt(division, reward, judge, plan.effective)
    warm = before.state.divided_by == division.by
    sides = ((REWARD, before.reward, division.reward, division.judge), (JUDGE, before.judge, division.judge, division.reward))
    reward, judge = (
        _teach(
            begun(model, name, folder if warm else None),
            plan.lessons[name],
            [example for part in parted(others, settings.reward.goals) for example in unseen(part, own)[-MOST_TESTED:]],
            batch,
            settings,
            seed_for(seed, cycle, name),
        )
        for name, folder, own, others in sides
    )
    first, second = (_tested(own, other, division.golden, settings) for own, other in ((reward, judge), (judge, reward)))
    curve = _curve(reward, judge, settings, seed_for(seed, cycle, "curve"))
    first = replace(first, report=replace(first.report, curve=curve))
    return Learnt(division, first, second, plan.effective)


def begun(model: AdapterModel, name: str, folder: Path | None) -> RewardModel:
    """As ``folder`` has it; where that is another version's, or was made with other settings, from nothing."""
    try:
        return RewardModel(model, name, source=folder)
    except AdapterFileError as error:
        _log.warning("reward_model_learns_anew", model=name, reason=str(error))
        return RewardModel(model, name)


class _Pupil(NamedTuple):
    """A model that has learnt, and what it is to be tested on: the others' votes on questions that it was never taught."""

    model: RewardModel
    lessons: Sequence[Example]
    held_out: Sequence[Example]
    before: dict[str, float]
    """What the model of the last commit made of those that are new."""
    older: Sequence[Example]
    """Those of the lessons that are not."""


def _teach(
    scorer: RewardModel,
    taught: Sequence[Example],
    held_out: Sequence[Example],
    batch: Batch,
    settings: TrainSettings,
    seed: int,
) -> _Pupil:
    preferences, _ = parted(held_out, settings.reward.goals)
    later = [example for example in preferences if example.feedback_id in batch.new][-MOST_LATER:] if scorer.warm else []
    before = margins_of(scorer, later)
    scorer.fit(taught, settings.reward, seed, ask=asking(batch.votes))
    for metric, (_, reason) in scorer.left_out.items():
        _log.warning("goal_left_out", model=scorer.name, goal=metric, reason=reason)
    return _Pupil(scorer, taught, held_out, before, [lesson for lesson in taught if lesson.feedback_id not in batch.new])


def _tested(own: _Pupil, other: _Pupil, golden: Sequence[Example], settings: TrainSettings) -> Taught:
    """On the other one's people, of whom that one has found out how far each can be believed."""
    figures = report(own.model, own.lessons, own.held_out, golden, own.before, other.model.people, own.older)
    return Taught(own.model, tuple(own.lessons), figures, reward_gates(own.model.name, figures, settings.gates))


def _curve(reward: _Pupil, judge: _Pupil, settings: TrainSettings, seed: int) -> tuple[CurvePoint, ...]:
    return vote_curve(reward.model.model, reward.lessons, reward.held_out, settings.reward, seed, judge.model.people)


def keep(learnt: Learnt, folder: Path) -> None:
    """Write what `learn` needs to come to the same without teaching again."""
    for taught in (learnt.reward, learnt.judge):
        taught.model.save(folder / taught.model.name)
        figures = {
            "report": taught.report.to_json(),
            "gates": [gate.model_dump(mode="json") for gate in taught.gates],
            "people": None if taught.model.people is None else asdict(taught.model.people),
        }
        (folder / taught.model.name / _FIGURES).write_text(json.dumps(figures))


def _recall(model: AdapterModel, folder: Path, taught: Sequence[Example]) -> Taught:
    figures = json.loads((folder / _FIGURES).read_text())
    report_then = TypeAdapter(RewardReport).validate_python(figures["report"])
    scorer = RewardModel(model, folder.name, source=folder)
    scorer.people = None if figures["people"] is None else Population(**figures["people"])
    return Taught(scorer, tuple(taught), report_then, tuple(map(GateResult.model_validate, figures["gates"])))
