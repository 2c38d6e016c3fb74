"""One cycle of the tiny model, killed with SIGKILL when its commit comes to the named step."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from vote_log import settings_for

from trainer.cycle import trainer_of


def main(folder: str, model: str, last: str) -> None:
    torch.set_num_threads(1)

    def die(step: str) -> None:
        if step == last:
            os.kill(os.getpid(), signal.SIGKILL)

    with trainer_of(settings_for(Path(folder), Path(model)), fault=die) as trainer:
        trainer.cycle(minimum=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
