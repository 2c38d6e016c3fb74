"""Hot swap: adapters become live without a dropped or a mixed answer.

    wanted ──verify──▶ load on every ready replica ──probe──▶ LIVE ──no longer wanted──▶ drain ──no request left──▶ unload
       └──────────────────────────────────┴──▶ REFUSED (the control topic is told why, once)

The control topic says which adapters a project wants; requests see a new deployment only once its adapters are live, in
one assignment. A running answer holds a lease on its adapter, so it stays whole and on that adapter to its end.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import structlog

from feedback.events import BASE, AdapterLive, AdapterRefused, Event, RolloutChanged
from feedback.log import EventConflict, EventLog, LogError, TopicReader
from ops import metrics
from ops.deployment import Deployment
from ops.models import ModelNotPrepared, prepared
from ops.registry import AdapterRefused as Refusal
from ops.registry import Registry
from ops.settings import Settings
from serving.engine import Engine, EngineError, EngineTimeout, EngineUnavailable
from serving.engine_command import EngineNotInstalled, installed_device
from serving.null_adapter import NULL, NoLinearLayer, write_null_adapter
from serving.replica import Replica

_log = structlog.get_logger(__name__)

POLL_S = 0.2
"""Between two looks at the control topic."""

LOOK_S = 1.0
"""Between two looks at an engine that answered the last one."""


class AdapterManager:
    """What each project serves, and which engines have it. One event loop; reconciles in a background task."""

    def __init__(
        self,
        engines: Sequence[Engine],
        registry: Registry,
        log: EventLog,
        settings: Settings,
        gateway_id: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        null_adapter = null_adapter_of(settings)
        timeout_s, interval_s = settings.engine.probe_timeout_s, settings.engine.probe_interval_s
        self._replicas = [Replica(engine, timeout_s, null_adapter, probe_interval_s=interval_s) for engine in engines]
        self._registry, self._log, self._settings = registry, log, settings
        self._gateway_id, self._clock = gateway_id, clock
        self._reader: TopicReader | None = None
        self._wanted: dict[str, Deployment] = {}
        self._served: dict[str, Deployment] = {}
        self._leases: Counter[str] = Counter()
        self._announced: set[str] = set()
        self._known: set[str] = set()
        """Adapters that some gateway has announced before."""
        self._refused: dict[str, str] = {}
        self._looked = -LOOK_S
        self._task: asyncio.Task[None] | None = None

    # what requests ask; none of these waits

    def deployment(self, project: str) -> Deployment:
        """What the project serves now: every adapter in it was live when it was put here.

        Raises `EngineUnavailable` as long as the champion is not known or not live yet: nobody is to get the base instead.
        """
        served = self._served.get(project)
        if served is None and (self._reader is None or project in self._unserved()):
            raise EngineUnavailable("the champion is not loaded yet")
        return served or Deployment.initial(project)

    def is_live(self, adapter: str) -> bool:
        """Whether every ready engine has it, and one is ready."""
        ready = self._ready_replicas()
        return bool(ready) and (adapter == BASE or all(adapter in replica.adapters for replica in ready))

    @contextmanager
    def lease(self, adapter: str) -> Iterator[None]:
        """Inside, the adapter is not unloaded."""
        self._leases[adapter] += 1
        try:
            yield
        finally:
            self._leases[adapter] -= 1

    def engine_for(self, adapter: str, conversation: str) -> Engine:
        """The engine for a conversation: the same while the same engines are ready, for its prefix cache."""
        ready = [replica for replica in self._ready_replicas() if adapter == BASE or adapter in replica.adapters]
        if not ready:
            raise EngineUnavailable(f"no engine is ready that has {adapter}")
        return ready[sum(conversation.encode()) % len(ready)].engine

    def ready(self) -> list[str]:
        """Why requests cannot be answered as they should; empty when they can."""
        if self._reader is None:
            return ["the control topic has not been read yet"]
        if not self._ready_replicas():
            return ["no engine answers"]
        return [f"champion {adapter} is not loaded yet" for adapter in sorted(set(self._unserved().values()))]

    def _unserved(self) -> dict[str, str]:
        """Champions that are not live, or that requests do not see yet, by project; refused ones are not waited for."""
        wanted = {p: d.champion for p, d in self._wanted.items() if d.champion != BASE and d.champion not in self._refused}
        return {p: champion for p, champion in wanted.items() if p not in self._served or not self.is_live(champion)}

    # the background task

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            try:
                await self.reconcile()
            except (LogError, EngineError, Refusal, LookupError, OSError) as error:
                _log.warning("reconcile_failed", error=str(error))
            await asyncio.sleep(POLL_S)

    async def reconcile(self) -> None:
        """One round: read, look, verify and load what is wanted, flip, unload what nobody uses."""
        await self._read()
        await self._look()
        for adapter in self._wanted_adapters():
            for replica in self._ready_replicas():
                if adapter not in replica.adapters and adapter not in self._refused:
                    await self._bring(adapter, replica)
        for adapter in self._wanted_adapters():
            await self._announce(adapter)
        self._flip()
        await self._unload_unused()
        self._measure()

    async def _read(self) -> None:
        if self._reader is None:
            self._reader = await asyncio.to_thread(TopicReader, self._log, "control")
        for record in await asyncio.to_thread(self._reader.drain):
            event = record.event
            if isinstance(event.data, RolloutChanged):
                before = self._wanted.get(event.project) or Deployment.initial(event.project)
                self._wanted[event.project] = before.after(event.data, event.time)
            elif isinstance(event.data, AdapterLive):
                self._known.add(event.data.adapter)

    async def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_S and all(replica.ready for replica in self._replicas):
            return
        self._looked = now
        restarted = await asyncio.gather(*(replica.look() for replica in self._replicas))
        if any(restarted):
            _log.warning("engine_restarted", adapters="registered again")

    def _wanted_adapters(self) -> list[str]:
        named = [a for d in self._wanted.values() for a in (d.champion, d.challenger) if a is not None and a != BASE]
        return list(dict.fromkeys(named))

    async def _bring(self, adapter: str, replica: Replica) -> None:
        """Verify, load, probe. An engine that does not answer as the base either says nothing about the adapter: tried again."""
        try:
            await asyncio.to_thread(self._registry.verify, adapter, self._settings.engine.max_lora_rank)
            path = self._registry.path(adapter)
            await replica.register(adapter, str(Path(path).absolute()))
        except (EngineUnavailable, EngineTimeout) as error:
            _log.warning("load_failed", adapter=adapter, error=error.message)
            replica.ready = False
        except (Refusal, LookupError) as error:
            await self._refuse(adapter, str(error))
        except EngineError as error:
            if await replica.engine.answers(BASE, self._settings.engine.probe_timeout_s):
                await self._refuse(adapter, error.message)
            else:
                replica.ready = False

    async def _announce(self, adapter: str) -> None:
        if not self.is_live(adapter) or adapter in self._announced:
            return
        manifest = await asyncio.to_thread(self._registry.get, adapter)
        seconds = max(0.0, self._clock() - manifest.published)
        live = AdapterLive(
            adapter=adapter,
            gateway=self._gateway_id,
            published=manifest.published,
            seconds=seconds,
            reload=adapter in self._known,
        )
        await self._tell(manifest.project, f"live-{adapter}-{self._gateway_id}", live)
        self._announced.add(adapter)
        metrics.SWAPS.labels(outcome="live").inc()
        if not live.reload:
            metrics.SWAP_SECONDS.observe(seconds)
        _log.info("adapter_live", adapter=adapter, seconds=round(seconds, 3))

    async def _refuse(self, adapter: str, reason: str) -> None:
        self._refused[adapter] = reason
        metrics.SWAPS.labels(outcome="refused").inc()
        _log.error("adapter_refused", adapter=adapter, reason=reason)
        for project, wanted in self._wanted.items():
            if adapter in (wanted.champion, wanted.challenger):
                refusal = AdapterRefused(adapter=adapter, gateway=self._gateway_id, reason=reason)
                await self._tell(project, f"refused-{adapter}-{self._gateway_id}", refusal)

    async def _tell(self, project: str, event_id: str, data: AdapterLive | AdapterRefused) -> None:
        event = Event(id=event_id, time=self._clock(), project=project, key=project, data=data)
        try:
            await asyncio.to_thread(self._log.append, [event])
        except EventConflict:
            return  # told before

    def _flip(self) -> None:
        """Let requests see what is wanted as far as it is live. Without a live champion the former deployment stays."""
        for project, wanted in self._wanted.items():
            if not self.is_live(wanted.champion):
                continue
            live = wanted.challenger is None or self.is_live(wanted.challenger)
            self._served[project] = wanted if live else replace(wanted, challenger=None, coverage=0.0, rollout_id=None)

    async def _unload_unused(self) -> None:
        used = set(self._wanted_adapters()) | {a for d in self._served.values() for a in (d.champion, d.challenger) if a}
        for replica in self._ready_replicas():
            for adapter in sorted(replica.adapters - used):
                if not self._leases[adapter]:
                    await replica.unregister(adapter)
                    _log.info("adapter_unloaded", adapter=adapter)

    def _ready_replicas(self) -> list[Replica]:
        return [replica for replica in self._replicas if replica.ready]

    def _measure(self) -> None:
        metrics.ADAPTER_INFO.clear()
        for project, deployment in self._served.items():
            metrics.ADAPTER_INFO.labels(project, "champion", deployment.champion).set(1)
            if deployment.challenger is not None:
                metrics.ADAPTER_INFO.labels(project, "challenger", deployment.challenger).set(1)


def null_adapter_of(settings: Settings) -> Path | None:
    """The folder of the adapter that stands for the base, written now; None where the engine needs none or runs elsewhere."""
    try:
        if settings.engine_urls or installed_device() != "cpu":
            return None
        return write_null_adapter(Path(prepared(settings).path), settings.run_dir.absolute() / NULL)
    except (EngineNotInstalled, ModelNotPrepared, NoLinearLayer) as error:
        _log.warning("base_served_plainly", reason=str(error))
        return None
