"""Who appends events to a log that forwards to Kafka: a thread here, or a process that may be killed."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from feedback.kafka_log import KafkaLog
from feedback.log import LogUnavailable
from ops.chaos.ledger import Ledger, numbered
from ops.chaos.scenario import wait_until
from ops.chaos.writer import Task, target_of
from ops.process import die_with_parent, module


class Source:
    """A thread that appends events at a steady pace in a ``with`` block. Outages of Kafka must not be felt here."""

    def __init__(self, log: KafkaLog, name: str, *, keys: int = 20, per_s: float = 200.0) -> None:
        self.ledger = Ledger()
        self.refused = 0
        self._log, self._name, self._keys, self._pause_s = log, name, keys, 1 / per_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Source:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._done.wait(self._pause_s):
            target = target_of(self._name, number, self._keys)
            try:
                self._log.append([numbered(target, number, time.time())])
            except LogUnavailable:
                self.refused += 1
                continue
            self.ledger.note(target, number)
            number += 1


class Writer:
    """A running `ops.chaos.writer`; ``ledger`` is told what it acknowledges."""

    def __init__(self, process: subprocess.Popen[str], ledger: Ledger) -> None:
        self.process = process
        self.next = 0
        """The number after the last acknowledged."""
        self._ledger = ledger
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def wait_ready(self) -> None:
        wait_until(self._ready.is_set, "a writer is ready", 60)

    def kill(self) -> None:
        """SIGKILL; what it said before that has been noted then."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._thread.join()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line == "ready\n":
                self._ready.set()
            elif line.endswith("\n"):  # else it was killed in the middle of a word
                target, number = line.split()
                self._ledger.note(target, int(number))
                self.next = int(number) + 1


@contextmanager
def writing(task: Task, ledger: Ledger, log: Path) -> Iterator[Writer]:
    with log.open("ab") as errors:
        process = subprocess.Popen(
            module("ops.chaos.writer", json.dumps(asdict(task))),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    writer = Writer(process, ledger)
    try:
        yield writer
    finally:
        writer.kill()
