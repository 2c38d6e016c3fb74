"""A process with an outbox and a Kafka, to be killed: it appends one event after another and says which are acknowledged.

Run it with ``python -m ops.chaos.writer`` and a `Task` as JSON. One line ``target number`` on standard output for each event.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from threading import Event
from typing import Any

from feedback.kafka_log import KafkaLog
from feedback.log import LogUnavailable
from ops.chaos.ledger import numbered
from ops.logs import configure_logs

_RETRY_S = 0.05


@dataclass(frozen=True)
class Task:
    outbox: str
    servers: str
    prefix: str
    """Of the topics."""
    api_version: tuple[int, ...] | None
    name: str
    """Events are about ``keys`` targets of this name."""
    first: int
    """The first event's number; 0 events with ``last`` below it: it only forwards."""
    last: int
    keys: int = 20
    ack_timeout_s: float = 2.0
    pause_s: float = 0.0
    """Between two events."""


def task_of(value: dict[str, Any]) -> Task:
    """From its JSON."""
    version = value["api_version"]
    return Task(**(value | {"api_version": None if version is None else tuple(version)}))


def target_of(name: str, number: int, keys: int) -> str:
    return f"{name}-{number % keys}"


def main(task: Task) -> None:
    never = Event()
    log = KafkaLog(task.outbox, task.servers, task.prefix, api_version=task.api_version, ack_timeout_s=task.ack_timeout_s)
    print("ready", flush=True)
    for number in range(task.first, task.last + 1):
        target = target_of(task.name, number, task.keys)
        while not _appended(log, target, number):
            never.wait(_RETRY_S)
        print(target, number, flush=True)
        if task.pause_s:
            never.wait(task.pause_s)
    never.wait()


def _appended(log: KafkaLog, target: str, number: int) -> bool:
    try:
        log.append([numbered(target, number, time.time())])
    except LogUnavailable:
        return False
    return True


if __name__ == "__main__":
    configure_logs("writer")
    main(task_of(json.loads(sys.argv[1])))
