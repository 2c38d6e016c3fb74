"""From votes to two models of what people like: the reward model, and the judge that must agree with it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.registry import GateResult
from ops.settings import RewardSettings
from trainer.checkpoint import JUDGE, REWARD, Loaded
from trainer.examples import Division, Example, believed, digest, divide, lessons, unseen
from trainer.gates.learned import learned
from trainer.inbox import Batch
from trainer.policy import AdapterModel
from trainer.report import RewardReport, report
from trainer.reward import RewardModel

MOST_TESTED = 400
"""Held-out votes, the newest ones: a standard error of 2 points, at a bounded price."""


def seed_for(seed: int, cycle: int, what: str) -> int:
    """A seed of its own for each part of each cycle."""
    return int.from_bytes(hashlib.sha256(f"{seed} {cycle} {what}".encode()).digest()[:4], "big") >> 1


@dataclass(frozen=True)
class Taught:
    """One of the two models, what it learnt from, and how it did on the other one's people."""

    model: RewardModel
    lessons: tuple[Example, ...]
    report: RewardReport
    gate: GateResult

    def to_json(self) -> dict[str, Any]:
        return {"name": self.model.name, "examples": digest(self.lessons), **self.report.to_json()}


@dataclass(frozen=True)
class Learnt:
    division: Division
    reward: Taught
    judge: Taught

    @property
    def lessons(self) -> dict[str, tuple[Example, ...]]:
        """By the models' names."""
        return {taught.model.name: taught.lessons for taught in (self.reward, self.judge)}

    @property
    def gates(self) -> list[GateResult]:
        return [self.reward.gate, self.judge.gate]

    @property
    def knows(self) -> bool:
        """Both know more than the majority: there is something to learn from, and somebody to check it."""
        return all(gate.passed for gate in self.gates)


def learn(
    model: AdapterModel, batch: Batch, before: Loaded, settings: RewardSettings, seed: int, done: Path | None = None
) -> Learnt:
    """Teach both from the batch's votes, going on from the last commit's models if votes are still divided as they were.

    ``done`` is a folder with both as they came out of this very lesson before: then they are only tested again.
    """
    cycle = before.state.cycle + 1
    division, taught = curriculum(batch, settings, seed, cycle)
    warm = before.state.divided_by == division.by
    sides = ((REWARD, before.reward, division.reward, division.judge), (JUDGE, before.judge, division.judge, division.reward))
    reward, judge = (
        _teach(
            RewardModel(model, name, source=done / name if done is not None else folder if warm else None),
            taught[name],
            unseen(others, own, MOST_TESTED),
            None if done is not None else settings,
            seed_for(seed, cycle, name),
        )
        for name, folder, own, others in sides
    )
    return Learnt(division, reward, judge)


def curriculum(
    batch: Batch, settings: RewardSettings, seed: int, cycle: int
) -> tuple[Division, dict[str, list[Example]]]:
    """Who learns from what in a cycle, and by name each model's lessons: new votes and a replay of older ones."""
    division = divide(believed(batch.votes), settings.judge_share)
    own = {REWARD: division.reward, JUDGE: division.judge}
    return division, {name: lessons(own[name], batch.new, settings.replay, seed_for(seed, cycle, name)) for name in own}


def _teach(
    scorer: RewardModel, taught: Sequence[Example], tested: Sequence[Example], settings: RewardSettings | None, seed: int
) -> Taught:
    """Learns, unless it has (no settings); is tested on the others' votes on questions that it was never taught."""
    if settings is not None:
        scorer.fit(taught, settings, seed)
    figures = report(scorer, taught, tested)
    return Taught(scorer, tuple(taught), figures, learned(f"{scorer.name}_accuracy", figures))
