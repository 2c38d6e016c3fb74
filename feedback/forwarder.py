"""Carries the outbox to the cluster: one thread, in order, at least once, for as long as it takes.

A window of rows is sent, and the cursor moves once all of them are acknowledged. Whatever goes wrong, the sender is
dropped, a new one is built, and everything from the cursor on is sent again: a copy of an event may reach the cluster,
but never before the events that precede it in its partition, so a reader that keeps the first of each id sees them in
order. Of all processes on one outbox a single one forwards at a time (a lock that the system frees when it dies).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import structlog
from filelock import FileLock, Timeout

from feedback.codec import dead_letter
from feedback.events import Event
from feedback.log import LogError
from feedback.outbox import Outbox
from feedback.sqlite_log import Row

_WINDOW_ROWS = 500
_WINDOW_BYTES = 500_000
"""Less than a producer's batch, so that a partition's rows of one window arrive together or not at all."""

_POLL_S = 0.2
"""How often other processes' appends are looked for; our own are noticed at once."""

_HOUSEKEEPING_S = 60.0

_log = structlog.get_logger()


class SendFailed(LogError):
    """Some rows may not have arrived: send them again, with a new sender."""


class RowsRefused(LogError):
    """The cluster will never take these rows; all others of the window are acknowledged."""

    def __init__(self, refused: Sequence[tuple[Row, str]]) -> None:
        super().__init__(f"{len(refused)} rows refused: {refused[0][1]}")
        self.refused = refused


class Sender(Protocol):
    def send(self, rows: Sequence[Row], timeout: float) -> None:
        """Returns once all rows are acknowledged. Raises `SendFailed` (at the latest after ``timeout``), `RowsRefused`."""
        ...

    def close(self) -> None:
        """Give up what is under way, without waiting for it."""
        ...


class Forwarder:
    """``rebuilds`` counts senders given up, ``forwarded`` acknowledged rows of this process, copies included."""

    def __init__(
        self,
        outbox: Outbox,
        connect: Callable[[], Sender],
        *,
        ack_timeout_s: float = 10.0,
        keep_s: float = 7 * 86_400,
        longest_pause_s: float = 2.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.rebuilds = 0
        self.forwarded = 0
        self._outbox = outbox
        self._connect = connect
        self._ack_timeout_s = ack_timeout_s
        self._keep_s = keep_s
        self._longest_pause_s = longest_pause_s
        self._clock = clock
        self._sender: Sender | None = None
        self._failures = 0
        self._next_housekeeping = 0.0
        self._stop = threading.Event()
        self._stop_at = float("inf")
        self._thread = threading.Thread(target=self._run, name="log-forwarder", daemon=True)
        self._thread.start()

    @property
    def lag(self) -> int:
        """Rows not yet known to be in the cluster."""
        return self._outbox.lag()

    @property
    def oldest_s(self) -> float:
        """Age of the oldest event not yet known to be in the cluster, in seconds; 0 if all are."""
        time = self._outbox.oldest()
        return 0.0 if time is None else max(0.0, self._clock() - time)

    @property
    def failing(self) -> bool:
        """Whether the last try to bring events to the cluster, by this process, failed."""
        return self._failures > 0

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def close(self, grace_s: float = 2.0) -> None:
        """Stop; a cluster that answers still gets what is left within ``grace_s``. What is not sent stays in the outbox."""
        self._stop_at = time.monotonic() + grace_s
        self._stop.set()
        with self._outbox.log.committed_here:
            self._outbox.log.committed_here.notify_all()
        self._thread.join(grace_s + 30)

    def _run(self) -> None:
        lock = FileLock(_lock_path(self._outbox.log.path), thread_local=False)
        while True:
            try:
                with lock.acquire(timeout=0):
                    self._forward()
                return
            except Timeout:  # another process forwards; take over when it is gone
                if self._stop.wait(1.0):
                    return
            finally:
                self._drop_sender()

    def _forward(self) -> None:
        cursor: int | None = None
        while time.monotonic() < self._stop_at:
            seen = self._outbox.log.transactions
            try:
                cursor = self._outbox.cursor() if cursor is None else cursor
                rows = self._outbox.after(cursor, rows=_WINDOW_ROWS, size=_WINDOW_BYTES)
                if rows:
                    letters = self._send(rows)
                    cursor = rows[-1].seq
                    self._outbox.advance(cursor, letters)
                    self._failures = 0
                elif self._stop.is_set():
                    return
                else:
                    self._keep_house()
                    self._wait_for_commit(seen)
            except LogError as error:  # the cluster, or our own disk: try again from the durable cursor
                cursor = None
                self._note(error)
                if self._stop.wait(min(0.05 * 2**self._failures, self._longest_pause_s)):
                    return

    def _send(self, rows: Sequence[Row]) -> list[Event]:
        """Returns the dead letters of what the cluster will never take."""
        if self._sender is None:
            self._sender = self._connect()
        letters: list[Event] = []
        try:
            self._sender.send(rows, min(self._ack_timeout_s, self._stop_at - time.monotonic()))
        except RowsRefused as refusal:
            for row, reason in refusal.refused:
                _log.error(
                    "event refused by the cluster", topic=row.topic, partition=row.partition, offset=row.offset, reason=reason
                )
            letters = [
                dead_letter("refused", row.position, row.body, self._clock(), detail=reason)
                for row, reason in refusal.refused
                if row.topic != "dead-letter"
            ]
        self.forwarded += len(rows)
        return letters

    def _note(self, error: LogError) -> None:
        if self._sender is not None:
            self.rebuilds += 1
            self._drop_sender()
        if self._failures == 0:
            _log.warning("events wait in the outbox", error=str(error))
        self._failures = min(self._failures + 1, 10)

    def _drop_sender(self) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()

    def _wait_for_commit(self, seen: int) -> None:
        log = self._outbox.log
        with log.committed_here:
            log.committed_here.wait_for(lambda: self._stop.is_set() or log.transactions != seen, _POLL_S)

    def _keep_house(self) -> None:
        if time.monotonic() >= self._next_housekeeping and not self._outbox.forget(self._clock() - self._keep_s):
            self._next_housekeeping = time.monotonic() + _HOUSEKEEPING_S


def _lock_path(outbox: Path) -> Path:
    return outbox.with_name(outbox.name + ".forwarder")
