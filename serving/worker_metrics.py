"""Metrics of a gateway of several workers: whichever is asked tells all, each with its ``worker`` label (0 to N - 1).

Every worker leaves its metrics in a file every second; a file of a process that is gone is nobody's any more.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from ops import metrics
from ops.process import is_alive

EVERY_S = 1.0
_STALE_S = 10.0
"""A file this old is of a worker that is gone, whoever may have its process id by now."""

_log = structlog.get_logger(__name__)


class WorkerMetrics:
    """``slot`` is this worker's number; None: the only one, whose metrics bear no label."""

    def __init__(self, folder: Path, slot: int | None) -> None:
        self._folder, self._slot = folder, slot
        self._writing = threading.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._slot is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._task = asyncio.create_task(self._run(), name="metrics")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._file.unlink(missing_ok=True)

    def page(self, *registries: CollectorRegistry) -> bytes:
        """These registries in Prometheus' text format, of every worker. Reads files: not for the event loop."""
        if self._slot is None:
            return metrics.render(*registries)
        with suppress(OSError):  # a full disk: what it told last
            self.write()
        names = {family.name for registry in registries for family in registry.collect()}
        merged: dict[str, Metric] = {}
        for slot, text in self._texts():
            for family in text_string_to_metric_families(text):
                if family.name in names:
                    into = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                    for sample in family.samples:
                        into.add_sample(sample.name, sample.labels | {"worker": slot}, sample.value)
        registry = CollectorRegistry()
        registry.register(_Collected(merged))
        return generate_latest(registry)

    def write(self) -> None:
        """Leave this worker's metrics where the others find them."""
        with self._writing:
            draft = self._file.with_suffix(".draft")
            draft.write_bytes(metrics.render(metrics.GATEWAY, metrics.LOG, metrics.ADMIN))
            draft.rename(self._file)

    @property
    def _file(self) -> Path:
        return self._folder / f"{self._slot}-{os.getpid()}.prom"

    async def _run(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self.write)
            except OSError as error:
                _log.warning("metrics_not_written", error=str(error))
            await asyncio.sleep(EVERY_S)

    def _texts(self) -> Iterator[tuple[str, str]]:
        """Slot and metrics of every live worker; of two in one slot, while one replaces the other, the newer's."""
        newest: dict[str, Path] = {}
        for path in sorted(self._folder.glob("*.prom"), key=lambda path: int(path.stem.partition("-")[2])):
            slot, _, pid = path.stem.partition("-")
            if is_alive(int(pid)) and _age_s(path) < _STALE_S:
                newest[slot] = path
            else:
                path.unlink(missing_ok=True)
        for slot, path in newest.items():
            with suppress(FileNotFoundError):
                yield slot, path.read_text()


class _Collected:
    def __init__(self, families: dict[str, Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families.values()


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return _STALE_S
