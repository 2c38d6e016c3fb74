"""The process that trains: ``plaudit train``. One trainer, its signals, its waiting, and what it prints."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import structlog

from feedback.log import LogUnavailable
from ops import metrics
from ops.cli.common import print_json
from ops.errors import CommandError
from ops.logs import configure_logs
from ops.models import prepared
from ops.open_log import open_log_of, tell_lag
from ops.registry import Registry
from ops.settings import Settings
from trainer.assist import assist
from trainer.budget import keep_to
from trainer.checkpoint import Checkpoint, CheckpointError
from trainer.cycle import REINFORCED, Trainer
from trainer.load import load_model
from trainer.parallel import ALONE, Crew
from trainer.record import UNCOMMITTED, CycleRecord
from trainer.tracker import tracking

_log = structlog.get_logger(__name__)


@contextmanager
def trainer_of(settings: Settings, crew: Crew = ALONE, **options: Any) -> Iterator[Trainer]:
    """A trainer with its log open and its lease held. ``options`` go to the `Checkpoint`. Raises `CheckpointError`."""
    checkpoint = Checkpoint(settings.trainer_dir, Registry(settings.adapters_dir), project=settings.project, **options)
    with checkpoint.lease(), open_log_of(settings) as log, tracking(settings) as tracker:
        yield Trainer(settings, log, checkpoint, tracker=tracker, crew=crew)


def run_cycle(settings: Settings, crew: Crew = ALONE) -> CycleRecord | None:
    """One cycle with the votes there are; None when none is new."""
    with trainer_of(settings, crew) as trainer:
        return trainer.cycle(asked=True)


def run(settings: Settings, once: bool = False, json: bool = False) -> None:
    """The command ``plaudit train``; ``once`` ends with status 1 after a cycle that failed or diverged. A signal ends it at once:
    what is not committed has not been.
    """
    configure_logs("trainer")
    keep_to(settings.train)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    crew = Crew.joined()
    if crew.size > 1 and settings.train.algorithm not in REINFORCED:
        wrong = f"train.algorithm={settings.train.algorithm!r}: only {' and '.join(REINFORCED)} are learnt in several processes"
        raise CommandError(f"{wrong}. Run `plaudit train` by itself, or set PLAUDIT_TRAIN__ALGORITHM to one of them")
    try:
        _work(settings, crew, once, json)
    except _Asked:
        os._exit(0)  # the log is closed, the lease is free; to take PyTorch apart would take seconds at this priority
    except (CommandError, SystemExit):
        crew.leave()
        raise
    except CheckpointError as error:
        crew.leave()
        raise CommandError(str(error)) from error
    crew.leave()


def _work(settings: Settings, crew: Crew, once: bool, json: bool) -> None:
    """What this one of the crew does, until it is done."""
    ref = prepared(settings)
    if crew.rank:
        assist(load_model(settings, ref), crew)
    elif once:
        record = run_cycle(settings, crew)
        _print(record, settings.project, json)
        if record is not None and record.outcome in UNCOMMITTED:
            raise SystemExit(1)
    else:
        port, host = settings.metrics_port_trainer, settings.metrics_host
        metrics.serve_metrics("metrics_port_trainer", port, host, metrics.TRAINER, metrics.LOG)
        _poll(settings, json, crew)


def _poll(settings: Settings, json: bool, crew: Crew) -> NoReturn:
    waiting = threading.Event()
    with trainer_of(settings, crew) as trainer:
        tell_lag("trainer", trainer.readers)
        while True:
            try:
                record = trainer.cycle()
            except LogUnavailable as error:
                _log.warning("log_unavailable", error=str(error))
                record = None
            if record is not None:
                _print(record, settings.project, json)
            waiting.wait(settings.train.poll_s)


class _Asked(BaseException):
    """A signal asks the process to leave. Not an Exception: nothing on its way may take it for one of its own errors."""


def _leave(number: int, frame: object) -> NoReturn:
    raise _Asked


def _print(record: CycleRecord | None, project: str, json: bool) -> None:
    if json:
        nothing = {"outcome": "nothing_new", "project": project, "new_votes": 0}
        print_json(nothing if record is None else record.model_dump(mode="json"))
    elif record is None:
        print(f"no new votes in project {project!r}; all projects: plaudit projects list")
    else:
        what = f"cycle {record.cycle} ({record.trigger}): {record.outcome}, {record.new_votes} new votes of {record.votes}"
        print(", ".join(filter(None, (what, record.adapter, record.reason))))
    sys.stdout.flush()
