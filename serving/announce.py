"""What a gateway tells the control topic of adapters: that one is live, or why it never will be; each once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from feedback.events import AdapterLive, AdapterRefused, Event
from feedback.log import EventConflict, EventLog
from ops import metrics
from ops.registry import AdapterManifest

_log = structlog.get_logger(__name__)


class Announcer:
    """What is to be told waits until `flush` could write it. Event ids name adapter and gateway: the log keeps each once."""

    def __init__(self, log: EventLog, gateway_id: str, clock: Callable[[], float]) -> None:
        self._log, self._gateway_id, self._clock = log, gateway_id, clock
        self._waiting: list[Event] = []
        self._announced: set[str] = set()
        self._known: set[str] = set()

    def heard(self, live: AdapterLive) -> None:
        """Some gateway has announced this."""
        self._known.add(live.adapter)

    def was_live(self, adapter: str) -> bool:
        """Whether some gateway, perhaps this one, has served it."""
        return adapter in self._known or adapter in self._announced

    def has_told(self, adapter: str) -> bool:
        """Whether this gateway says, or is about to, that the adapter is live."""
        return adapter in self._announced

    def live(self, manifest: AdapterManifest) -> None:
        seconds = max(0.0, self._clock() - manifest.published)
        again = manifest.id in self._known
        live = AdapterLive(
            adapter=manifest.id, gateway=self._gateway_id, published=manifest.published, seconds=seconds, reload=again
        )
        self._tell(manifest.project, f"live-{manifest.id}-{self._gateway_id}", live)
        self._announced.add(manifest.id)
        metrics.SWAPS.labels(outcome="live").inc()
        if not again:
            metrics.SWAP_SECONDS.observe(seconds)
        _log.info("adapter_live", adapter=manifest.id, seconds=round(seconds, 3))

    def refused(self, adapter: str, reason: str, projects: list[str]) -> None:
        metrics.SWAPS.labels(outcome="refused").inc()
        _log.error("adapter_refused", adapter=adapter, reason=reason)
        refusal = AdapterRefused(adapter=adapter, gateway=self._gateway_id, reason=reason)
        for project in projects:
            self._tell(project, f"refused-{adapter}-{self._gateway_id}", refusal)

    async def flush(self) -> None:
        """Write what waits, in order. Raises `LogError`; the rest then waits for the next time."""
        while self._waiting:
            with suppress(EventConflict):  # told before
                await asyncio.to_thread(self._log.append, self._waiting[:1])
            del self._waiting[0]

    def _tell(self, project: str, event_id: str, data: AdapterLive | AdapterRefused) -> None:
        self._waiting.append(Event(id=event_id, time=self._clock(), project=project, key=project, data=data))
