"""One cycle of made-up weights: its progress, its commit, its publication."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from ops.registry import GateResult, Registry
from trainer.checkpoint import Checkpoint, Loaded, State
from trainer.progress import Kept, Point
from trainer.publish import Publication
from trainer.record import CycleRecord

NOW = 5.0
CONFIG = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}


def commit(folder: Path, cycle: int, fault: Callable[[str], None] = lambda step: None, *, publishes: bool = True) -> str | None:
    gate = GateResult(name="made_up", passed=True)
    record = CycleRecord(cycle=cycle, outcome="published", parent="base", votes=cycle, new_votes=1, raters=1, finished=1.0)
    publication = Publication(
        project="default",
        parent="base",
        base_model="digest",
        training={"cycle_key": f"key of {cycle}"},
        reward_models=(),
        gates=(gate,),
    )

    def fill(draft: Path) -> None:
        for name in ("reward", "judge", "adapter"):
            (draft / name).mkdir()
            (draft / name / "weights").write_text(f"{name} of cycle {cycle}")
            fault(f"filled {name}")
        (draft / "adapter" / "weights").unlink()
        (draft / "adapter" / "adapter_config.json").write_text(json.dumps(CONFIG))
        (draft / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")

    checkpoint = Checkpoint(folder / "trainer", Registry(folder / "adapters"), fault=fault)
    with checkpoint.lease():
        checkpoint.progress.begin(point(cycle), lambda draft: (draft / "weights").write_text(f"learnt in cycle {cycle}"))
        for step in (1, 2):
            checkpoint.progress.keep(step, loop(step))
        state = State(cycle=cycle, offsets={"feedback": {0: 10 * cycle, 11: 0}}, votes=cycle, divided_by="rater")
        return checkpoint.commit(state, record, publication if publishes else None, fill, now=NOW)


def point(cycle: int) -> Point:
    return Point(key=f"work of {cycle}", cycle=cycle, offsets={"feedback": {0: 10 * cycle}})


def loop(step: int) -> dict[str, object]:
    return {"steps": [{"objective/kl": 0.5}] * step, "weights": {0: torch.full((2,), float(step))}}


def restart(folder: Path) -> tuple[Loaded, Kept | None]:
    """What a trainer finds that starts now."""
    checkpoint = Checkpoint(folder / "trainer", Registry(folder / "adapters"))
    with checkpoint.lease():
        return checkpoint.open(NOW), checkpoint.progress.found()


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file but those of turns, which say who wrote and not what."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files if not {"turns", ".turns"} & {*path.parts}}
