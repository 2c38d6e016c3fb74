"""A process that holds the trainer's lease on a folder until it is killed. Says ``held`` or ``busy``.

Run it with ``python -m ops.chaos.holder FOLDER``.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from ops.cli import load
from ops.registry import Registry


def main(folder: Path) -> None:
    checkpoint = load("trainer.checkpoint:Checkpoint")(folder / "trainer", Registry(folder / "adapters"))
    try:
        with checkpoint.lease():
            print("held", flush=True)
            threading.Event().wait()
    except load("trainer.checkpoint:TrainerBusy"):
        print("busy", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
