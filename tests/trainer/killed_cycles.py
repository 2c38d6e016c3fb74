"""Whole cycles of the tiny model, killed with SIGKILL when they come to a step, then begun again with more votes in the log.

Prints for each, as JSON: the cycle's record, all that stays of it, and how many votes are new afterwards. At the end, what
becomes of one that has too little memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from commit_once import bytes_of
from vote_log import fill, settings_for

from ops.open_log import open_log_of
from trainer.budget import keep_to, taken_mb, unlimited_memory
from trainer.process import trainer_of

VOTES, MORE = 60, 10
STEPS = (
    ("nothing", 1),
    ("progress: draft of step", 1),
    ("progress: draft of step", 2),
    ("durable", 1),
    ("prepared", 1),
)


def main(folder: Path, model: Path) -> None:
    torch.set_num_threads(1)
    for number, (step, times) in enumerate(STEPS):
        here = folder / str(number)
        settings = settings_for(here, model, keep_every=1, min_new_votes=VOTES)
        status = _process(lambda settings=settings, step=step, times=times: _begin(settings, step, times))
        again = folder / f"{number}.json"
        _process(lambda settings=settings, again=again: again.write_text(json.dumps(_again(settings))))
        print(json.dumps({"step": step, "times": times, "killed": status == signal.SIGKILL} | json.loads(again.read_text())))
    short = folder / "short.json"
    settings = settings_for(folder / "short", model, keep_every=1)
    status = _process(lambda: short.write_text(json.dumps(_short_of_memory(settings))))
    print(json.dumps({"ended_with": status} | json.loads(short.read_text())))


def _short_of_memory(settings) -> dict[str, object]:
    """A cycle of which a step takes more than the budget leaves; what it says, and what stays of it."""
    with open_log_of(settings) as log:
        fill(log, VOTES)
    with trainer_of(settings, fault=_take_much) as trainer:
        keep_to(settings.train.model_copy(update={"memory_mb": taken_mb() + 2000}))
        record = trainer.cycle()
        again = trainer.cycle()
    with unlimited_memory():
        _take_much("progress: draft of step")
    files = (str(path.relative_to(settings.data_dir)) for path in settings.data_dir.rglob("*") if path.is_file())
    left = [name for name in files if "commits" in name or "default-v" in name or "current" in name]
    return {"outcome": record.outcome, "reason": record.reason, "again": again is not None, "left": left}


def _take_much(step: str) -> None:
    if step == "progress: draft of step":
        torch.empty(4 << 30, dtype=torch.uint8)  # addresses only: without a budget it is to be had


def _begin(settings, last: str, times: int) -> None:
    left = times

    def die(step: str) -> None:
        nonlocal left
        left -= step == last
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    with open_log_of(settings) as log:
        fill(log, VOTES)
    with trainer_of(settings, fault=die) as trainer:
        trainer.cycle(asked=True)


def _again(settings) -> dict[str, object]:
    with open_log_of(settings) as log:
        fill(log, MORE, seed=1)
    with trainer_of(settings) as trainer:
        resumed = trainer.cycle()  # more than are new have to be, were they counted anew
        left = trainer.read(asked=True)
    kept = {name: data for part in ("trainer", "adapters") for name, data in bytes_of(settings.data_dir / part).items()}
    manifest = next(json.loads(data) for name, data in kept.items() if name.endswith("manifest.json"))
    return {
        "resumed": resumed is not None,
        "records": [json.loads(line) for line in kept["default/cycles.jsonl"].splitlines()],
        "adapters": [path.name for path in settings.adapters_dir.glob("default-*")],
        "examples": manifest["training"]["examples"],
        "kept": {name: hashlib.sha256(data).hexdigest() for name, data in kept.items() if _is_timeless(name)},
        "left": len(left.batch.new),
    }


def _is_timeless(name: str) -> bool:
    """Records and manifests say when, and how many seconds it took: they are compared field by field."""
    return not name.endswith((".jsonl", "record.json", "files.json", "current.json", "manifest.json", ".lock"))


def _process(work: Callable[[], object]) -> int:
    process = os.fork()
    if process:
        return os.waitpid(process, 0)[1]
    try:
        work()
    except BaseException as error:
        traceback.print_exception(error)
        raise
    finally:
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
