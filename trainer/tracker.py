"""The curves of training in TensorBoard, MLflow, Trackio or Weights & Biases: by one setting, and nothing by default.

Accelerate's own trackers do the work; each takes its address and its keys from the environment as it always does. Steps count
on from cycle to cycle, so that one curve shows them all. Training never depends on a tracker: one that fails is told once and
then left alone.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from typing import Any, Protocol

import structlog

from ops.adapter_diff import flat
from ops.errors import CommandError
from ops.settings import Settings
from trainer.record import CycleRecord

_log = structlog.get_logger(__name__)

_PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "mlflow": ("mlflow",), "trackio": ("trackio",), "wandb": ("wandb",)}
"""Any of which will do; the first is the one to install."""


class Sink(Protocol):
    """As `accelerate.tracking.GeneralTracker`."""

    def store_init_configuration(self, values: dict[str, Any]) -> None: ...

    def log(self, values: dict[str, Any], step: int | None = None) -> None: ...

    def finish(self) -> None: ...


class Tracker:
    """Tells a sink, if there is one, until it fails."""

    def __init__(self, sink: Sink | None = None) -> None:
        self._sink = sink

    def configuration(self, values: Mapping[str, Any]) -> None:
        plain = {
            name: value if isinstance(value, bool | int | float | str) else str(value) for name, value in flat(values).items()
        }
        self._tell("configuration", lambda sink: sink.store_init_configuration(plain))

    def step(self, number: int, metrics: Mapping[str, float]) -> None:
        """The metrics of one step of reinforcement learning."""
        self._tell("step", lambda sink: sink.log(dict(metrics), step=number))

    def cycle(self, number: int, record: CycleRecord) -> None:
        """The figures of a whole cycle; ``number`` is that of its last step."""
        self._tell("cycle", lambda sink: sink.log(figures(record), step=number))

    def close(self) -> None:
        self._tell("close", lambda sink: sink.finish())

    def _tell(self, what: str, call: Callable[[Sink], None]) -> None:
        if self._sink is None:
            return
        try:
            with _not_on_stdout():
                call(self._sink)
        except Exception as error:  # noqa: BLE001 - whatever a tracker's client raises, training goes on
            _log.warning("tracker_failed", what=what, error=repr(error))
            self._sink = None


def figures(record: CycleRecord) -> dict[str, float]:
    """All numbers of a cycle's record but those of its steps, by a name with slashes."""
    gates = {gate.name: {"value": gate.value, "passed": gate.passed} for gate in record.gates}
    told = record.model_dump(mode="json", include={"cycle", "votes", "new_votes", "raters", "reward_model", "judge", "seconds"})
    every = flat({"cycle": told, "published": record.outcome == "published", "gate": gates})
    return {name.replace(".", "/"): float(value) for name, value in every.items() if isinstance(value, bool | int | float)}


def _not_on_stdout() -> AbstractContextManager[Any]:
    """What a client prints is not what the command answers."""
    return redirect_stdout(sys.stderr)


@contextmanager
def tracking(settings: Settings) -> Iterator[Tracker]:
    """The settings' tracker for a ``with`` block. Raises `CommandError` if its package is not installed."""
    tracker = Tracker(_sink(settings))
    tracker.configuration(settings.train.model_dump(mode="json"))
    try:
        yield tracker
    finally:
        tracker.close()


def _sink(settings: Settings) -> Sink | None:
    name = settings.train.tracker
    if not name:
        return None
    wanted = _PACKAGES[name]
    if not any(importlib.util.find_spec(package) for package in wanted):
        raise CommandError(
            f"train.tracker={name!r}: the package {wanted[0]!r} is not installed. Run 'pip install {wanted[0]}', or set "
            "PLAUDIT_TRAIN__TRACKER to nothing"
        )
    from accelerate import tracking as accelerates

    project = f"plaudit-{settings.project}"
    try:
        match name:
            case "tensorboard":
                sink = accelerates.TensorBoardTracker(settings.project, settings.data_dir / "tensorboard")
            case "mlflow":
                sink = accelerates.MLflowTracker(experiment_name=project)
            case "trackio":
                sink = accelerates.TrackioTracker(project)
            case "wandb":
                sink = accelerates.WandBTracker(project)
        with _not_on_stdout():
            sink.start()
    except Exception as error:  # noqa: BLE001 - as above: no server, no login, a client of another version
        _log.warning("tracker_failed", what="start", error=repr(error))
        return None
    return sink
