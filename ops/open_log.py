"""The project's event log, opened as the settings say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from feedback.log import EventLog
from feedback.open import open_log
from ops import metrics
from ops.settings import Settings


def open_settings_log(settings: Settings) -> EventLog:
    """The log; the caller closes it. How far Kafka is behind its outbox is told in this process's metrics."""
    log = open_log(
        settings.log_backend,
        settings.log_path,
        kafka_bootstrap_servers=settings.kafka_bootstrap_servers,
        kafka_topic_prefix=settings.kafka_topic_prefix,
    )
    forwarder = getattr(log, "forwarder", None)
    if forwarder is not None:
        metrics.FORWARD_LAG.set_function(lambda: float(forwarder.lag))
        metrics.FORWARD_REBUILDS.set_function(lambda: float(forwarder.rebuilds))
    return log


@contextmanager
def open_log_of(settings: Settings) -> Iterator[EventLog]:
    """The log for a ``with`` block."""
    log = open_settings_log(settings)
    try:
        yield log
    finally:
        log.close()
