"""A registry and a log on disk with two engines in memory: what gateways swap adapters over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from engine_twin import EngineTwin
from safetensors.numpy import save_file

from feedback.events import AdapterLive, AdapterRefused, Event, RolloutChanged
from feedback.ids import uuid7
from feedback.log import TopicReader
from feedback.sqlite_log import SqliteLog
from ops.registry import GateResult, Registry
from ops.settings import load_settings
from serving.swap import AdapterManager

PUBLISHED = 1e6
MODULE = "base_model.model.model.layers.0.self_attn.q_proj"
CONFIG = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}


class World:
    """A registry, a log and two engines; gateways come and go."""

    def __init__(self, folder: Path) -> None:
        self.settings = load_settings(data_dir=folder, model="none", engine={"probe_timeout_s": 5})
        self.registry = Registry(self.settings.adapters_dir)
        self.log = SqliteLog(self.settings.log_path)
        self.engines = [EngineTwin(), EngineTwin()]
        self.now = PUBLISHED + 2.5
        self.ticks = 0.0
        """The gateways' monotonic clock, in seconds."""
        self._staged = 0

    def gateway(self, name: str = "gw-1", registry: Registry | None = None) -> AdapterManager:
        """A gateway that looks at its engines in every round."""
        return AdapterManager(
            self.engines, registry or self.registry, self.log, self.settings, name, clock=lambda: self.now, monotonic=self._tick
        )

    def _tick(self) -> float:
        self.ticks += 1e-3
        return self.ticks

    def publish(self, fill: float | None = None, parent: str = "base", passed: bool = True) -> str:
        """A new adapter of the registry; ``fill`` overrides its weights."""
        self._staged += 1
        staging = self.settings.data_dir / f"staging-{self._staged}"
        staging.mkdir()
        (staging / "adapter_config.json").write_text(json.dumps(CONFIG))
        draw = np.random.default_rng(self._staged)
        a, b = (draw.normal(size=shape).astype(np.float32) for shape in ((8, 4), (4, 8)))
        if fill is not None:
            b[0, 0] = fill
        save_file({f"{MODULE}.lora_A.weight": a, f"{MODULE}.lora_B.weight": b}, staging / "adapter_model.safetensors")
        gate = GateResult(name="win_rate", passed=passed, value=0.6, threshold=0.5)
        return self.registry.publish(
            staging, project="default", parent=parent, base_model="sha256:0", training={}, gates=[gate], now=PUBLISHED
        ).id

    def change(self, project: str = "default", **change: Any) -> None:
        """A change of the deployment, as the controller writes it."""
        data = RolloutChanged(**({"rollout_id": "ro-1", "state": "RAMP", "coverage": 0.5, "salt": "salt"} | change))
        self.log.append([Event(id=uuid7(), time=self.now, project=project, key=project, data=data)])

    def told(self, kind: type[AdapterLive] | type[AdapterRefused]) -> list[Any]:
        events = [record.event for record in TopicReader(self.log, "control").drain()]
        return [event.data for event in events if isinstance(event.data, kind)]


async def reconciled(manager: AdapterManager, condition: Callable[[], Any]) -> None:
    """Round after round until the condition holds."""
    async with asyncio.timeout(10):
        while not condition():
            await manager.reconcile()
            await asyncio.sleep(0.01)
