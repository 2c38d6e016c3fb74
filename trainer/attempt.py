"""One cycle at work: what it starts from, what its stages find, and what of it is kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from feedback.events import BASE
from ops.models import ModelRef
from ops.registry import GateResult
from ops.settings import Settings
from trainer.checkpoint import ADAPTER, JUDGE, REWARD, Loaded, State
from trainer.inbox import Batch
from trainer.learn import Learnt
from trainer.policy import AdapterModel
from trainer.publish import Publication, cycle_key
from trainer.record import CycleRecord, Outcome
from trainer.trial import CHAMPION, POLICY, Standards


@dataclass
class Attempt:
    """``learnt`` is None until the votes have been learnt from, ``steps`` and ``standards`` are empty without training."""

    batch: Batch
    before: Loaded
    ref: ModelRef
    model: AdapterModel
    learnt: Learnt | None = None
    steps: list[dict[str, float]] = field(default_factory=list)
    gates: list[GateResult] = field(default_factory=list)
    standards: Standards = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def number(self) -> int:
        return self.before.state.cycle + 1

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

    @property
    def state(self) -> State:
        """What counts as learnt once this is committed."""
        return State(
            cycle=self.number,
            offsets=self.batch.offsets,
            votes=len(self.batch.votes),
            divided_by=self.learnt.division.by,
            people=tuple(sorted(self.batch.people.union(self.before.state.people))),
        )

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
                "offsets": batch.offsets,
                "votes": len(batch.votes),
                "new_votes": len(batch.new),
                "raters": len({vote.rater for vote in batch.votes}),
                "divided_by": self.learnt.division.by,
                "steps": len(self.steps),
                "last_step": {k: v for k, v in (self.steps or [{}])[-1].items() if not k.startswith("timing/")},
                "standards": self.standards,
                "code_version": version("plaudit"),
            },
            reward_models=(self.learnt.reward.to_json(), self.learnt.judge.to_json()),
            gates=tuple(self.gates),
        )

    def record(self, outcome: Outcome, reason: str, now: float) -> CycleRecord:
        learnt, batch = self.learnt, self.batch
        figures: dict[str, Any] = {}
        if learnt is not None:
            figures = {
                "divided_by": learnt.division.by,
                "reward_model": learnt.reward.report.to_json(),
                "judge": learnt.judge.report.to_json(),
            }
        return CycleRecord(
            cycle=self.number,
            outcome=outcome,
            reason=reason,
            parent=batch.champion,
            votes=len(batch.votes),
            new_votes=len(batch.new),
            raters=len({vote.rater for vote in batch.votes}),
            steps=tuple(self.steps),
            gates=tuple(self.gates),
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
        if self.before.state.divided_by != self.learnt.division.by:
            return  # they have learnt from the very people who are to test them from now on
        for name, source in ((REWARD, self.before.reward), (JUDGE, self.before.judge)):
            if source is not None:
                shutil.copytree(source, folder / name)
