"""How far a cycle has come, so that a trainer which is killed in the middle goes on there, to the same bytes.

``progress/models/`` is kept once the votes have been learnt from: reward model, judge, and the place in the log up to which the
cycle has read, so that it is read no further when the cycle goes on. ``progress/step-000010/`` is what `trainer.improve` needs
to go on after ten steps: weights, critic, optimizers, random numbers, KL coefficient. Each lands whole, by one rename out of
the trainer's turn; the whole is gone once the cycle is committed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from pydantic import Field
from safetensors import SafetensorError

from feedback.events import Frozen
from feedback.ids import uuid7
from ops import turns
from trainer.listed import CheckpointError, seal, verify
from trainer.record import Trigger

_MODELS = "models"
_STEP = "step-"
_POINT = "point.json"
_LOOP = "loop.safetensors"

_log = structlog.get_logger(__name__)


class Point(Frozen):
    """Which work this is: ``key`` names all that it depends on (see `trainer.attempt.point_of`)."""

    key: str
    cycle: int
    offsets: dict[str, dict[int, int]] = Field(description="Next offset to read, by topic and partition.")
    trigger: Trigger = "asked"


@dataclass(frozen=True)
class Kept:
    """``models`` is a folder with one for each model; ``loop`` the state of reinforcement learning, None before any is kept."""

    point: Point
    models: Path
    loop: dict[str, Any] | None


class Progress:
    """The progress folder, written by who has the turn whose folder is ``turn``."""

    def __init__(self, folder: Path, turn: Path, fault: Callable[[str], None] = lambda step: None) -> None:
        self._folder, self._turn, self._fault = folder, turn, fault

    def found(self) -> Kept | None:
        """What an earlier trainer has kept. What is damaged is as if it were not there: it can be made again."""
        models = self._folder / _MODELS
        if not models.is_dir():
            return None
        try:
            verify(models)
            loop = self._newest_loop()
        except CheckpointError as error:
            _log.warning("progress_unusable", reason=str(error))
            return None
        return Kept(Point.model_validate_json((models / _POINT).read_text()), models, loop)

    def begin(self, point: Point, fill: Callable[[Path], None]) -> None:
        """Keep what has been learnt from votes: ``fill`` writes the models into the folder that it is given."""

        def write(draft: Path) -> None:
            self.drop()
            fill(draft)
            (draft / _POINT).write_text(point.model_dump_json())

        self._land("models", write, self._folder / _MODELS)

    def keep(self, step: int, loop: dict[str, Any]) -> None:
        """Keep the state after ``step`` steps; earlier ones are deleted."""
        from trainer.state_file import write_state  # PyTorch: not for who only asks for the lease

        self._land("step", lambda draft: write_state(draft / _LOOP, loop), self._folder / f"{_STEP}{step:06d}")
        self._fault("progress: earlier steps")
        for earlier in self._steps()[:-1]:
            shutil.rmtree(earlier, ignore_errors=True)

    def drop(self) -> None:
        """Forget all of it, at once."""
        if self._folder.exists():
            gone = self._turn / f".gone-{uuid7()}"
            self._fault("progress: drop")
            turns.land(self._turn, self._folder, gone)
            self._fault("progress: dropped")
            shutil.rmtree(gone, ignore_errors=True)

    def _newest_loop(self) -> dict[str, Any] | None:
        from trainer.state_file import read_state

        steps = self._steps()
        if not steps:
            return None
        verify(steps[-1])
        return read_state(steps[-1] / _LOOP)

    def _steps(self) -> list[Path]:
        return sorted(self._folder.glob(f"{_STEP}*"))

    def _land(self, what: str, write: Callable[[Path], None], target: Path) -> None:
        """Keep what ``write`` writes; what the disk does not take is told, and the cycle goes on without it."""
        draft = self._turn / f".{what}-{uuid7()}"
        self._fault(f"progress: draft of {what}")
        try:
            draft.mkdir()
            write(draft)
            seal(draft)
            self._fault(f"progress: {what}")
            self._folder.mkdir(exist_ok=True)
            turns.land(self._turn, draft, target)
        except (OSError, SafetensorError) as error:
            turns.check(self._turn, error)
            shutil.rmtree(draft, ignore_errors=True)
            _log.warning("progress_not_kept", what=what, reason=str(error))
