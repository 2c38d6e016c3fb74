"""One cycle at work: what it starts from, what its stages find, and what of it is kept."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from feedback.events import BASE
from feedback.replay import row_of
from ops.models import ModelRef
from ops.registry import GateResult
from ops.settings import Settings
from ops.software import software
from trainer.checkpoint import ADAPTER, JUDGE, REWARD, Loaded, State
from trainer.inbox import Batch
from trainer.learn import Learnt, seed_for
from trainer.policy import AdapterModel
from trainer.progress import Kept, Point
from trainer.provenance import examples_root, leaves_of, offset_ranges, raters_of
from trainer.publish import Publication, cycle_key
from trainer.record import CycleRecord, Outcome, Trigger
from trainer.spread import Spread
from trainer.trial import CHAMPION, POLICY, Standards

_log = structlog.get_logger(__name__)

SEEDS = (REWARD, JUDGE, "improve", "gate")
"""The stages that draw random numbers."""

_NOT_IN_THE_WORK = {
    "hours",
    "keep_every",
    "max_nll_rise",
    "memory_mb",
    "min_effective_labels",
    "min_new_votes",
    "nice",
    "orphan_hours",
    "poll_s",
    "retrain_on_promotion",
    "tracker",
}
"""Settings of when and how fast, which change nothing about what is learnt."""


def point_of(settings: Settings, ref: ModelRef, before: Loaded, batch: Batch, trigger: Trigger) -> Point:
    """Names a cycle's work by all that its outcome depends on: what an interrupted one left is of use to the same work alone."""
    number = before.state.cycle + 1
    votes = [[row_of(vote), vote.judgement.model_dump(mode="json"), [c.sealed for c in vote.completions]] for vote in batch.votes]
    prompts = [[[message.role, message.content] for message in prompt] for prompt in batch.prompts]
    work = [
        cycle_key(settings.project, number, before.digest, batch.offsets),
        batch.champion,
        ref.digest,
        settings.seed,
        settings.train.model_dump(mode="json", exclude=_NOT_IN_THE_WORK),
        software(),
        votes,
        prompts,
    ]
    key = hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()
    return Point(key=key, cycle=number, offsets=batch.offsets, trigger=trigger)


@dataclass
class Attempt:
    """``model`` is None until it is loaded, ``learnt`` until the votes have been learnt from; ``steps`` and ``standards`` are
    empty without training.
    """

    batch: Batch
    trigger: Trigger
    before: Loaded
    ref: ModelRef
    model: AdapterModel | None = None
    kept: Kept | None = None
    """What a trainer that was killed over this very work has left."""
    learnt: Learnt | None = None
    steps: list[dict[str, float]] = field(default_factory=list)
    ended_by: str = ""
    softened: float = 1.0
    gates: list[GateResult] = field(default_factory=list)
    standards: Standards = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def number(self) -> int:
        return self.before.state.cycle + 1

    @property
    def steps_kept(self) -> int:
        """Steps that a trainer which was killed had done and kept."""
        return 0 if self.kept is None or self.kept.loop is None else len(self.kept.loop["steps"])

    @property
    def champion(self) -> str:
        """The name under which the model holds the champion."""
        return BASE if self.batch.champion == BASE else CHAMPION

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - started, 3)
        _log.info("stage_ended", cycle=self.number, stage=name, seconds=self.seconds[name])

    @property
    def state(self) -> State:
        """What counts as learnt once this is committed."""
        return State(
            cycle=self.number,
            offsets=self.batch.offsets,
            votes=len(self.batch.votes),
            divided_by=self.learnt.division.by,
            people=tuple(sorted(self.batch.people.union(self.before.state.people))),
            champion=self.batch.champion,
            held_out=self._held_out,
        )

    @property
    def _held_out(self) -> dict[str, dict[str, Spread]]:
        """Of the models that `fill` keeps."""
        if not self.learnt.knows:
            return self.before.state.held_out if self._same_people else {}
        return {taught.model.name: taught.report.nll_by_kind for taught in (self.learnt.reward, self.learnt.judge)}

    @property
    def _same_people(self) -> bool:
        """If not, the last commit's models have learnt from the very people who are to test them from now on."""
        return self.before.state.divided_by == self.learnt.division.by

    def publication(self, settings: Settings) -> Publication:
        """What the adapter's manifest will say: everything that is needed to make it again."""
        before, batch, train = self.before, self.batch, settings.train
        return Publication(
            project=settings.project,
            parent=batch.champion,
            base_model=self.ref.digest,
            training={
                "cycle": self.number,
                "cycle_key": cycle_key(settings.project, self.number, before.digest, batch.offsets),
                "algorithm": train.algorithm,
                "config": train.model_dump(mode="json"),
                "seed": settings.seed,
                "seeds": {what: seed_for(settings.seed, self.number, what) for what in SEEDS},
                "model": self.ref.name,
                "offsets": offset_ranges(before.state.offsets, batch.offsets),
                "examples": self._examples,
                "votes": len(batch.votes),
                "new_votes": len(batch.new),
                "effective_labels": round(self.learnt.effective, 3),
                "trigger": self.trigger,
                **raters_of(batch),
                "divided_by": self.learnt.division.by,
                "steps": len(self.steps),
                "ended_by": self.ended_by,
                "softened": self.softened,
                "last_step": {k: v for k, v in (self.steps or [{}])[-1].items() if not k.startswith("timing/")},
                "standards": self.standards,
                "software": software(),
            },
            reward_models=(self.learnt.reward.to_json(), self.learnt.judge.to_json()),
            gates=tuple(self.gates),
        )

    @property
    def _examples(self) -> dict[str, Any]:
        """What was learnt from: how many votes by model, and the root of their tree (see `trainer.provenance`)."""
        lessons = self.learnt.lessons
        root = examples_root(leaves_of(lessons, self.batch.votes))
        return {"count": {name: len(taught) for name, taught in lessons.items()}, "merkle_root": root}

    def record(self, outcome: Outcome, reason: str, now: float) -> CycleRecord:
        learnt, batch = self.learnt, self.batch
        figures: dict[str, Any] = {}
        if learnt is not None:
            figures = {
                "effective_labels": round(learnt.effective, 3),
                "divided_by": learnt.division.by,
                "reward_model": learnt.reward.report.to_json(),
                "judge": learnt.judge.report.to_json(),
            }
        return CycleRecord(
            cycle=self.number,
            outcome=outcome,
            trigger=self.trigger,
            reason=reason,
            parent=batch.champion,
            votes=len(batch.votes),
            new_votes=len(batch.new),
            raters=len({vote.rater for vote in batch.votes}),
            steps=tuple(self.steps),
            ended_by=self.ended_by,
            softened=self.softened,
            gates=tuple(self.gates),
            offsets=offset_ranges(self.before.state.offsets, batch.offsets),
            resumed_after=self.steps_kept,
            seconds=self.seconds,
            finished=now,
            **figures,
        )

    def fill(self, folder: Path) -> None:
        """The folders of a commit. Models that know nothing are not gone on from: the last ones that did are kept."""
        if self.learnt.knows:
            self.learnt.reward.model.save(folder / REWARD)
            self.learnt.judge.model.save(folder / JUDGE)
            self.model.save(POLICY, folder / ADAPTER)
            return
        if not self._same_people:
            return
        for name, source in ((REWARD, self.before.reward), (JUDGE, self.before.judge)):
            if source is not None:
                shutil.copytree(source, folder / name)
