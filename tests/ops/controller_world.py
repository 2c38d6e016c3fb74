"""A controller with a real log and registry, and a clock of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from lora_files import MODULE, publish, weights, write_lora
from streams import Stream, live

from feedback.events import Event, RolloutChanged
from feedback.log import TopicReader
from feedback.sqlite_log import SqliteLog
from ops.controller import Controller
from ops.registry import AdapterManifest, Registry
from ops.settings import Settings

STEPS = [
    {"state": "CANARY", "coverage": 0.5, "min_users": 5, "min_seconds": 10},
    {"state": "RAMP", "coverage": 1.0, "min_users": 20, "min_seconds": 10},
]
USERS = [f"user-{i:03d}" for i in range(240)]
NAN = weights() | {f"{MODULE}.lora_A.weight": np.full((8, 4), np.nan, np.float32)}


@dataclass
class World:
    """A controller with a real log and registry, and a clock that each tick moves on by ten seconds."""

    root: Path
    now: float = 1_000_000.0
    logs: list[SqliteLog] = field(default_factory=list)
    retention: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rollout = {"steps": STEPS, "non_inferior": ["duel"], "poll_s": 0.01}
        more = {"rollout": rollout, "retention": self.retention}
        self.settings = Settings(data_dir=self.root, metrics_port_controller=0, model="starter", **more)
        self.registry = Registry(self.settings.adapters_dir)
        self.log = self.open_log()
        self.controller = self.new_controller()

    def open_log(self) -> SqliteLog:
        self.logs.append(SqliteLog(self.settings.log_path))
        return self.logs[-1]

    def new_controller(self) -> Controller:
        return Controller(self.log, self.settings, clock=lambda: self.now)

    def publish(self, seed: int = 1, **options: object) -> AdapterManifest:
        tensors = options.pop("tensors", None)
        return publish(self.registry, write_lora(self.root / f"staging-{seed}", seed=seed, tensors=tensors), **options)

    def tick(self) -> list[str]:
        self.now += 10
        return [event.data.state for event in self.controller.tick()]

    def control(self) -> list[Event]:
        return [r.event for r in TopicReader(self.log, "control").drain() if isinstance(r.event.data, RolloutChanged)]

    def states(self) -> list[str]:
        return [event.data.state for event in self.control()]

    def to_canary(self, seed: int = 1) -> AdapterManifest:
        manifest = self.publish(seed)
        assert self.tick() == ["GATED"]
        self.log.append([live(manifest.id)])
        assert self.tick() == ["CANARY"]
        return manifest

    def duel(self, users: Sequence[str], *, prefers: float, seed: int = 0, every: int = 60) -> list[str]:
        """Duels of these users under what is deployed, with a tick after ``every`` events; the states that came of it."""
        states: list[str] = []
        stream = Stream(seed, now=self.now)
        for user in users:
            self.log.append(stream.duel(self.controller.deployment, user, prefers=prefers))
            if stream.count % every == 0:
                states += self.tick()
        return states + self.tick()
