"""Sends rows to a cluster.

The producer's settings avoid kafka-python's traps: its idempotent producer never sends again once a batch has timed out, its
constructor and ``send`` block while Kafka is away, and its topics make themselves with one partition.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from kafka import KafkaProducer
from kafka.errors import (
    InvalidRecordError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownError,
)

from feedback.cluster.client import DEADLINE_S, Cluster
from feedback.forwarder import RowsRefused, SendFailed
from feedback.sqlite_log import Row

_NEVER_TAKEN = (MessageSizeTooLargeError, RecordListTooLargeError, InvalidRecordError)

_PRODUCER: dict[str, Any] = {
    "enable_idempotence": False,
    "max_in_flight_requests_per_connection": 1,
    "acks": "all",
    "batch_size": 900_000,
    # A window is flushed, and given up by the forwarder's own watchdog: a partition's rows of one window are one batch,
    # and no batch expires by itself while a later one goes through.
    "linger_ms": 60_000,
    "delivery_timeout_ms": 600_000,
    "max_block_ms": 5000,
    "allow_auto_create_topics": False,
    "metrics_enabled": False,
}


class KafkaSender:
    """One producer, for as long as nothing goes wrong. ``settings`` go before those above."""

    def __init__(self, cluster: Cluster, **settings: Any) -> None:
        self._cluster = cluster
        self._producer = cluster.open(KafkaProducer, **_PRODUCER | settings)

    def send(self, rows: Sequence[Row], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        try:
            sent = [(row, self._send(row)) for row in rows]
            while not all(future.is_done for _, future in sent):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise KafkaTimeoutError(f"no answer within {timeout:.1f} s")
                with suppress(UnknownError):  # what flush() says when a batch was too large, split and queued again
                    self._producer.flush(timeout=left)
        except (KafkaError, OSError, ValueError) as error:
            raise SendFailed(str(error)) from error
        failed = [(row, future.exception) for row, future in sent if future.failed()]
        for _, reason in failed:
            if not isinstance(reason, _NEVER_TAKEN):
                raise SendFailed(str(reason))
        if failed:
            raise RowsRefused([(row, str(reason)) for row, reason in failed])

    def close(self) -> None:
        # The public close() waits for what is under way, for ever if the producer is stuck.
        self._producer._sender.force_close()
        self._producer._sender.join(DEADLINE_S)
        with suppress(KafkaError, OSError):
            self._producer.close(timeout=0)

    def _send(self, row: Row) -> Any:
        headers = dict(row.headers)
        return self._producer.send(
            self._cluster.name(row.topic),
            value=row.body,
            key=headers["ce_subject"],
            headers=row.headers,
            partition=row.partition,
        )
