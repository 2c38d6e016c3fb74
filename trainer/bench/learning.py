"""One run of the loop without serving: people vote, the trainer's own cycle learns, what passes its gates is the champion.

The trainer, the log, the join, weights, gates and registry are the real ones. Only the engine and the live experiment have
stand-ins: answers are made in this process, and an adapter whose gates have passed is promoted at once by a control event.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from feedback.events import BASE, Event, RolloutChanged
from feedback.log import EventLog
from ops.deployment import rollout_of
from ops.domain.people import crowd
from ops.models import prepared
from ops.open_log import open_log_of
from ops.registry import Registry
from ops.settings import Settings
from trainer.bench.held_out import HeldOut
from trainer.bench.voters import Shares, Voters
from trainer.cycle import Trainer
from trainer.load import load_model
from trainer.policy import AdapterModel
from trainer.process import trainer_of
from trainer.record import CycleRecord
from trainer.reward import RewardModel


def run(
    settings: Settings,
    *,
    votes: int,
    votes_per_round: int,
    people: int,
    adversaries: float,
    questions: int,
    best_of: bool,
    on_round: Callable[[dict[str, Any]], None] = lambda round: None,
) -> dict[str, Any]:
    """A run in settings.data_dir, which is empty. ``start``: the base's figures; ``rounds``: each with the cycle's record in
    short, the figures of its adapter and of the champion after it, CPU and wall seconds; ``best_of``: the ceiling.
    """
    if settings.train.threads is not None:
        torch.set_num_threads(settings.train.threads)
    with open_log_of(settings) as log, trainer_of(settings) as trainer:
        bench = Bench(settings, log, trainer, people, adversaries, questions)
        rounds = []
        while bench.voters.votes < votes:
            rounds.append(bench.round(min(votes_per_round, votes - bench.voters.votes)))
            on_round(rounds[-1])
        ceiling = bench.ceiling() if best_of else {}
        return {"start": bench.held_out.start(), "rounds": rounds, "best_of": ceiling}


class Bench:
    """``adversaries`` is the share of the ``people`` who vote reversed; figures are of ``questions`` held-out questions."""

    def __init__(
        self, settings: Settings, log: EventLog, trainer: Trainer, people: int, adversaries: float, questions: int
    ) -> None:
        self._settings, self._log, self._trainer = settings, log, trainer
        self._registry = Registry(settings.adapters_dir)
        self._champion, self._promotions = BASE, 0
        self._figures: dict[str, dict[str, float]] = {}
        voters = crowd(people, seed=settings.seed, adversaries=adversaries)
        self.voters = Voters(voters, log, settings, settings.seed, Shares())
        self.held_out = HeldOut(self._model(), settings.sampling, questions, settings.seed)
        self._figures[BASE] = self.held_out.start()

    def round(self, votes: int) -> dict[str, Any]:
        """People vote, a cycle runs, and what it has published becomes the champion."""
        with self._holding(self._champion) as (model, name):
            self.voters.vote(model, name, self._champion, votes)
        wall, cpu = time.monotonic(), time.process_time()
        record = self._trainer.cycle(asked=True)
        wall, cpu = time.monotonic() - wall, time.process_time() - cpu
        if record is None:
            raise RuntimeError("the trainer found no new vote that it can learn from")
        if record.adapter is not None:
            with self._holding(record.adapter) as (model, name):
                self._figures[record.adapter] = self.held_out.figures(model, name)
        if record.outcome == "published":
            self._promote(record.adapter)
        return {
            "votes": self.voters.votes,
            "outcome": record.outcome,
            "reason": record.reason,
            "wall_s": round(wall, 2),
            "cpu_s": round(cpu, 2),
            "candidate": self._figures.get(record.adapter or "", {}),
            "champion": self._figures[self._champion],
            **_told(record),
        }

    def ceiling(self) -> dict[str, dict[str, float]]:
        """The base's best of n, by the taste and by the last reward model."""
        model = self._model()
        loaded = self._trainer.checkpoint.open(time.time())
        reward = None if loaded.reward is None else RewardModel(model, "reward", source=loaded.reward)
        return self.held_out.best_of(model, reward)

    def _promote(self, adapter: str) -> None:
        """The live experiment's stand-in."""
        self._promotions += 1
        change = RolloutChanged(
            rollout_id=rollout_of(adapter), state="PROMOTED", champion=adapter, challenger=adapter, promotions=self._promotions
        )
        project = self._settings.project
        self._log.append([Event(id=f"promoted-{adapter}", time=self.voters.now, project=project, key=project, data=change)])
        self._champion = adapter

    def _model(self) -> AdapterModel:
        return load_model(self._settings, prepared(self._settings))

    @contextmanager
    def _holding(self, adapter: str) -> Iterator[tuple[AdapterModel, str]]:
        """The model with a published adapter, and the name under which it has it."""
        model = self._model()
        if adapter == BASE:
            yield model, BASE
            return
        folder: Path = self._registry.path(adapter)
        model.add("served", source=folder)
        yield model, "served"


def _told(record: CycleRecord) -> dict[str, Any]:
    """What of a cycle's record says how it learnt; the steps in short."""
    last = record.steps[-1] if record.steps else {}
    return {
        "seconds": record.seconds,
        "steps": len(record.steps),
        "last_step": {key: value for key, value in last.items() if key.startswith(("objective/", "policy/", "rollout/"))},
        "reward_model": record.reward_model,
        "judge": record.judge,
        "gates": [gate.model_dump(exclude={"detail"}) for gate in record.gates],
    }
