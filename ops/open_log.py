"""The project's event log, opened as the settings say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from feedback.log import EventLog, LogError, TopicReader
from feedback.open import open_log
from feedback.sealed_log import SealedLog
from ops import metrics
from ops.errors import CommandError
from ops.redaction import redactor_of
from ops.retention import days_of
from ops.settings import Settings
from ops.text_keys import SqlTextKeys


def open_settings_log(settings: Settings) -> EventLog:
    """The log, its texts sealed at rest; the caller closes it. How far Kafka is behind is told in this process's metrics."""
    log = open_log(
        settings.log_backend,
        settings.log_path,
        kafka_bootstrap_servers=settings.kafka_bootstrap_servers,
        kafka_topic_prefix=settings.kafka_topic_prefix,
        kafka_retention_days=days_of(settings.retention),
    )
    forwarder = getattr(log, "forwarder", None)
    if forwarder is not None:
        metrics.FORWARD_LAG.set_function(partial(_or_nan, lambda: forwarder.lag))
        metrics.FORWARD_OLDEST.set_function(partial(_or_nan, lambda: forwarder.oldest_s))
        metrics.FORWARD_REBUILDS.set_function(lambda: float(forwarder.rebuilds))
    return SealedLog(log, SqlTextKeys.of(settings), redactor_of(settings))


@contextmanager
def open_log_of(settings: Settings) -> Iterator[EventLog]:
    """The log for a ``with`` block."""
    log = open_settings_log(settings)
    try:
        yield log
    finally:
        log.close()


@contextmanager
def existing_log_of(settings: Settings) -> Iterator[EventLog]:
    """As `open_log_of`, for who only asks: a data folder that was mistyped is told, not made. Raises `CommandError`."""
    if settings.log_backend == "sqlite" and not settings.log_path.exists():
        raise CommandError(f"--data-dir={settings.data_dir}: no event log is there; name the folder that Plaudit was run with")
    with open_log_of(settings) as log:
        yield log


def tell_lag(group: str, readers: Iterable[TopicReader]) -> None:
    """Let this process's metrics say how far the readers are behind the log whenever they are asked; NaN if it cannot be read."""
    for reader in readers:
        metrics.LOG_LAG.labels(group, reader.topic).set_function(partial(_or_nan, reader.lag))


def _or_nan(figure: Callable[[], float]) -> float:
    """A page of metrics is told also while the log cannot be read."""
    try:
        return float(figure())
    except LogError:
        return math.nan
