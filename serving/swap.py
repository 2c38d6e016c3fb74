"""Hot swap: adapters become live without a dropped or a mixed answer. `serving.lifecycle` has the states.

The control topic says which adapters a project wants. They are verified, loaded on every ready engine and probed; then
requests see the new deployment, in one assignment (the flip). A running answer holds a lease on its adapter, so it stays
whole and on that adapter to its end; an adapter that nobody uses is unloaded. An engine that comes back is given what is
served before it gets requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from feedback.events import BASE, AdapterLive, RolloutChanged
from feedback.log import EventLog, LogError, TopicReader
from ops import metrics
from ops.deployment import Deployment
from ops.registry import AdapterRefused as Refusal
from ops.registry import Registry, project_of
from ops.settings import Settings
from serving.announce import Announcer
from serving.demand import Demand
from serving.engine import Engine, EngineError, EngineTimeout, EngineUnavailable
from serving.lifecycle import Adapter, State
from serving.null_adapter import null_adapter_of
from serving.replica import Replica
from serving.routing import Router

_log = structlog.get_logger(__name__)

POLL_S = 0.1
"""Between two looks at the control topic."""

LOOK_S = 1.0
"""Between two looks at an engine that answered the last one."""

UNUSED_S = 2.0
"""An adapter is unloaded once nobody has used it for so long: other gateways on the same engines flip a little later."""

STRAY_S = 900.0
"""The same for adapters on an engine that this gateway never wanted: another one may."""

RETRY_S = 30.0
"""An engine that could not be given a served adapter is tried again after so long."""

TRIES = 2
"""An adapter that nobody has served yet is refused when an engine fails it so often."""


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
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        null_adapter = null_adapter_of(settings)
        timeout_s, interval_s = settings.engine.probe_timeout_s, settings.engine.probe_interval_s
        self.replicas = [Replica(engine, timeout_s, null_adapter, probe_interval_s=interval_s) for engine in engines]
        self.router = Router(self.replicas)
        self._registry, self._log, self._settings = registry, log, settings
        self._announcer = Announcer(log, gateway_id, clock)
        self._monotonic = monotonic
        self._reader: TopicReader | None = None
        self.demand = Demand(monotonic)
        self._looked: dict[Replica, float] = {}
        self._tending: dict[Replica, asyncio.Task[None]] = {}
        self._telling: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None

    # what requests ask

    def deployment(self, project: str) -> Deployment:
        """What the project serves now: every adapter in it was live when it was put here.

        Raises `EngineUnavailable` as long as the champion is not known or not live yet, or no engine is ready: nobody is
        to get the base instead.
        """
        served = self.demand.served.get(project)
        if served is None and (self._reader is None or project in self.demand.unserved()):
            raise EngineUnavailable("the champion is not loaded yet")
        deployment = served or Deployment.initial(project)
        if not self.is_live(deployment.champion):
            raise EngineUnavailable("no engine is ready that has the champion")
        return deployment

    async def servable(self, project: str, deadline: float) -> Deployment:
        """`deployment`, once there is one; waits until ``deadline`` by the loop's clock, then raises `EngineUnavailable`."""
        return await self.router.until(lambda: self.deployment(project), deadline)

    async def replica_for(self, adapter: str, conversation: str, deadline: float, avoid: Collection[Replica] = ()) -> Replica:
        """The engine for a request, once there is one. Raises `EngineUnavailable` at ``deadline`` by the loop's clock."""
        return await self.router.until(lambda: self.router.pick(adapter, conversation, avoid), deadline)

    def is_live(self, adapter: str) -> bool:
        """Whether a ready engine has it."""
        return self.router.is_live(adapter)

    async def pin(self, project: str, adapter: str, deadline: float) -> None:
        """Have an adapter of the project's registry live, for an operator; one that failed a gate is served to nobody.

        Raises LookupError, `EngineUnavailable`.
        """
        if adapter == BASE:
            return
        if project_of(adapter) != project:
            raise LookupError(f"the project {project} has no adapter {adapter!r}")
        manifest = await asyncio.to_thread(self._registry.get, adapter)
        if not manifest.passed:
            failed = ", ".join(gate.name for gate in manifest.gates if not gate.passed)
            raise LookupError(f"adapter {adapter} cannot be served, its gates failed: {failed or 'none was run'}")
        self.demand.pin(adapter)

        def live() -> None:
            if self.demand.is_refused(adapter):
                raise LookupError(f"adapter {adapter} cannot be served: {self.demand.adapters[adapter].reason}")
            if not self.is_live(adapter):
                raise EngineUnavailable(f"adapter {adapter} is not loaded yet")

        await self.router.until(live, deadline)

    def ready(self) -> list[str]:
        """Why requests cannot be answered as they should; empty when they can. Names no adapter: anybody may ask."""
        if self._reader is None:
            return ["the control topic has not been read yet"]
        if not any(replica.awake for replica in self.replicas):
            return [f"no engine answers: {trouble}" for trouble in sorted({replica.trouble for replica in self.replicas})]
        if unserved := self.demand.unserved():
            return [f"the champion of {len(unserved)} project(s) is not loaded yet"]
        return [] if self.router.ready else ["no engine has all adapters that are served"]

    # the background task

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="swap")

    async def wait_ready(self, timeout_s: float) -> None:
        """Return once `ready` finds nothing, but at the latest after so many seconds."""

        def look() -> None:
            if reasons := self.ready():
                raise EngineUnavailable("; ".join(reasons))

        with suppress(EngineUnavailable):
            await self.router.until(look, asyncio.get_running_loop().time() + timeout_s)

    async def stop(self) -> None:
        tasks = [task for task in (*self._tending.values(), self._telling, self._task) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._task = None
        self._tending.clear()

    async def _run(self) -> None:
        told = ""
        while True:
            try:
                await self.reconcile(POLL_S)
                told = ""
            except (LogError, EngineError, Refusal, LookupError, OSError) as error:
                if str(error) != told:  # once, not ten times a second
                    _log.warning("reconcile_failed", error=str(error))
                told = str(error)
            except Exception:  # noqa: BLE001 - logged; without this task nothing would ever be swapped or restored again
                _log.exception("reconcile_crashed")
            running = [task for task in self._tending.values() if not task.done()]
            if running:  # what an engine has just been given need not wait for the next poll
                await asyncio.wait(running, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(POLL_S)

    async def reconcile(self, patience_s: float | None = None) -> None:
        """One round. An engine that takes longer than ``patience_s`` seconds (None: however long) holds up no other.

        Engines are looked after also while the log cannot be read; its error is raised at the end.
        """
        problems: list[BaseException] = []
        try:
            await self._read()
        except LogError as error:
            problems.append(error)
        self.demand.admit(id for replica in self.replicas for id in replica.others | replica.adapters)
        for replica in self.replicas:
            if replica not in self._tending:
                self._tending[replica] = asyncio.create_task(self._tend(replica), name="tend")
        done, _ = await asyncio.wait(self._tending.values(), timeout=patience_s)
        self._tending = {replica: task for replica, task in self._tending.items() if task not in done}
        problems += [error for task in done if (error := task.exception()) is not None]
        await self._settle()
        await self._announce(patience_s)
        if problems:
            raise problems[0]

    async def _read(self) -> None:
        if self._reader is None:
            self._reader = await asyncio.to_thread(TopicReader, self._log, "control")
        for record in await asyncio.to_thread(self._reader.drain):
            event = record.event
            if isinstance(event.data, RolloutChanged):
                self.demand.change(event.project, event.data, event.time)
            elif isinstance(event.data, AdapterLive):
                self._announcer.heard(event.data)

    async def _tend(self, replica: Replica) -> None:
        """Look at one engine and give it what it lacks. It is ready once it has all that is served and still leased."""
        await self._supply(replica)
        now = self._monotonic()
        if not replica.awake or now - self._looked.get(replica, -LOOK_S) >= LOOK_S:
            await replica.look()
            replica.ready = replica.ready and self._has_what_it_can(replica)
            self._looked[replica] = now
            await self._supply(replica)
        before = replica.ready
        replica.ready = self._has_what_it_can(replica)
        if replica.ready and not before:
            self.router.changed()

    async def _supply(self, replica: Replica) -> None:
        """Bring what is leased, served and wanted, in this order."""
        for id in self.demand.to_supply():
            due = replica.failed.get(id, 0.0) <= self._monotonic()
            if replica.awake and due and id not in replica.adapters and not self.demand.is_refused(id):
                await self._bring(id, replica)

    def _has_what_it_can(self, replica: Replica) -> bool:
        """Whether it has all that is served or leased, but for what it could not be given again."""
        return replica.awake and self.demand.in_service() - replica.failed.keys() <= replica.adapters

    async def _bring(self, id: str, replica: Replica) -> None:
        """Verify, load, probe. What is live elsewhere, or an engine that does not answer as the base, speaks for the adapter."""
        adapter = self.demand.adapter(id)
        try:
            await asyncio.to_thread(self._registry.verify, id, self._settings.engine.max_lora_rank)
            if adapter.state == State.WANTED:
                adapter.move(State.VERIFIED, self._monotonic())
            await replica.register(id, str(Path(self._registry.path(id)).absolute()))
            replica.failed.pop(id, None)
        except (EngineUnavailable, EngineTimeout) as error:
            replica.lost(error.message)
        except (Refusal, LookupError) as error:
            adapter.tries = TRIES
            self._failed(adapter, replica, str(error))
        except EngineError as error:
            if await replica.engine.answers(BASE, self._settings.engine.probe_timeout_s):
                adapter.tries += 1
                self._failed(adapter, replica, error.message)
            else:
                replica.lost(error.message)

    def _failed(self, adapter: Adapter, replica: Replica, reason: str) -> None:
        """Refuse what nobody has served, at the second failure; what was served is good: this engine goes without it."""
        if adapter.state not in (State.WANTED, State.VERIFIED) or self._announcer.was_live(adapter.id):
            _log.warning("adapter_not_restored", adapter=adapter.id, engine=repr(replica.engine), reason=reason)
            replica.failed[adapter.id] = self._monotonic() + RETRY_S
            return
        if adapter.tries < TRIES:
            _log.warning("load_failed", adapter=adapter.id, engine=repr(replica.engine), reason=reason)
            return
        adapter.reason = reason
        adapter.move(State.REFUSED, self._monotonic())
        self._announcer.refused(adapter.id, reason, self.demand.wanting(adapter.id))

    async def _settle(self) -> None:
        """What is on every ready engine becomes live; flip; retire what is not used any more."""
        now, used = self._monotonic(), set(self.demand.used())
        for adapter in list(self.demand.adapters.values()):
            if adapter.state == State.VERIFIED and adapter.id in used and self.router.is_everywhere(adapter.id):
                adapter.move(State.LIVE, now)
        self.demand.flip()
        self.router.changed()
        used = set(self.demand.used())
        for adapter in list(self.demand.adapters.values()):
            if adapter.id not in used and adapter.state in (State.WANTED, State.VERIFIED, State.LIVE):
                adapter.move(State.DRAINING, now)
            if adapter.state == State.DRAINING:
                await self._drain(adapter, now)
            elif adapter.state == State.REFUSED:
                await self._unload(adapter.id)
        self._measure()

    async def _announce(self, patience_s: float | None) -> None:
        """Have the log told what is live or refused; a slow log holds up nobody."""
        for adapter in list(self.demand.adapters.values()):
            if adapter.state == State.LIVE and not self._announcer.has_told(adapter.id):
                self._announcer.live(await asyncio.to_thread(self._registry.get, adapter.id))
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._announcer.flush(), name="announce")
        done, _ = await asyncio.wait((self._telling,), timeout=None if patience_s is None else 0)
        for task in done:
            task.result()

    async def _drain(self, adapter: Adapter, now: float) -> None:
        """Unload it everywhere once its last answer has ended and nobody has wanted it for a while."""
        if self.demand.leases[adapter.id] or now - adapter.since < (STRAY_S if adapter.stray else UNUSED_S):
            return
        await self._unload(adapter.id)
        adapter.move(State.GONE, now)
        del self.demand.adapters[adapter.id]
        _log.info("adapter_unloaded", adapter=adapter.id)

    async def _unload(self, adapter: str) -> None:
        for replica in self.replicas:
            if replica.awake and adapter in replica.adapters | replica.others:
                await replica.unregister(adapter)

    def _measure(self) -> None:
        metrics.ENGINES.set(len(self.replicas))
        metrics.ENGINE_READY.set(len(self.router.ready))
        lost = [d for d in self.demand.served.values() if not self.is_live(d.champion)]
        metrics.CHAMPIONS_AWAY.set(len(lost) + len(self.demand.unserved()))
        metrics.ADAPTER_INFO.clear()
        for project, deployment in self.demand.served.items():
            metrics.ADAPTER_INFO.labels(project, "champion", deployment.champion).set(1)
            if deployment.challenger is not None:
                metrics.ADAPTER_INFO.labels(project, "challenger", deployment.challenger).set(1)
