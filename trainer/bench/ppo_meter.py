"""What a step of training takes of a machine: CPU seconds, seconds, memory. Read the same way for both sides of the bench."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass
class Meter:
    """Made before the models are: memory counts from there, step times from ``begin``."""

    device: str
    before_kb: int = field(default_factory=lambda: resident_kb("VmRSS"))
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    _mark: tuple[float, float] = (0.0, 0.0)

    def begin(self) -> None:
        self._mark = self._now()

    def step(self) -> None:
        """A step has ended."""
        now = self._now()
        self.cpu.append(now[0] - self._mark[0])
        self.wall.append(now[1] - self._mark[1])
        self._mark = now

    def report(self) -> dict[str, Any]:
        """Without the first step, in which caches are filled. ``peak_mb``: models, optimizers and activations, MiB."""
        peak = (
            torch.cuda.max_memory_allocated() / 2**20 if self.device == "cuda" else (resident_kb("VmHWM") - self.before_kb) / 1024
        )
        return {"cpu_s": self.cpu[1:], "wall_s": self.wall[1:], "peak_mb": peak}

    def _now(self) -> tuple[float, float]:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.process_time(), time.monotonic()


def resident_kb(field: str) -> int:
    """``VmRSS`` or ``VmHWM`` (its highest so far) of this process, KiB (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise OSError(f"/proc/self/status has no {field}")
