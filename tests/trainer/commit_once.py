"""Commits one cycle of made-up weights; as a script, cycle 2, killed with SIGKILL at the n-th step."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from ops.registry import GateResult, Registry
from trainer.checkpoint import Checkpoint, State
from trainer.publish import Publication
from trainer.record import CycleRecord

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
        state = State(cycle=cycle, offsets={"feedback": {0: 10 * cycle, 11: 0}}, votes=cycle, divided_by="rater")
        return checkpoint.commit(state, record, publication if publishes else None, fill, now=5.0)


if __name__ == "__main__":
    left = int(sys.argv[2])

    def die(step: str) -> None:
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    commit(Path(sys.argv[1]), 2, die)
