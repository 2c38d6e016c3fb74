"""The rollout controller of one project: reads the log, weighs the evidence, appends what it decides.

All it knows it has from the log and the registry, so it may be killed and started anywhere: at its start it reads the
log again and has the same evidence. The n-th change of a rollout has the event id ``ctl-<rollout>-<n>``: decided twice
(after a crash, or by two controllers), it is in the log once.
"""

from __future__ import annotations

import json as jsonlib
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, get_args

import structlog

from feedback.events import AdapterLive, AdapterRefused, Event, RolloutChanged, RolloutState, Topic
from feedback.log import EventConflict, EventLog, LogError, TopicReader
from feedback.orphans import Orphans
from ops import metrics
from ops.deployment import ENDED, Deployment, rollout_of
from ops.evidence.counts import Counts, Fact, challenger_of, fact_of
from ops.evidence.weigh import Evidence, weigh
from ops.logs import configure_logs
from ops.open_log import open_log_of, tell_lag
from ops.raters import RaterWatch
from ops.registry import AdapterManifest, GateResult, Registry
from ops.registry import AdapterRefused as Refusal
from ops.retention import Retention, letter_hours
from ops.rollout import decide, refuse, start
from ops.settings import Settings
from ops.status import History, status_of

_logger = structlog.get_logger(__name__)
_CHUNK = 1000


@dataclass
class Known:
    """What the control topic has said about the project so far."""

    deployment: Deployment
    history: dict[str, History] = field(default_factory=dict)
    """By rollout id, oldest first."""
    live: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def take(self, event: Event) -> None:
        """Fold an event; one that was taken already changes nothing."""
        data = event.data
        if isinstance(data, AdapterLive):
            self.live.add(data.adapter)
        elif isinstance(data, AdapterRefused):
            self.refused.setdefault(data.adapter, data.reason)
        elif isinstance(data, RolloutChanged) and event.id not in self.seen:
            self.seen.add(event.id)
            self.deployment = self.deployment.after(data, event.time)
            before = self.history.get(data.rollout_id) or History(
                data.rollout_id, challenger_of(data.rollout_id), started=event.time
            )
            self.history[data.rollout_id] = before.after(data, event.time)


class Controller:
    """`tick` moves the project's rollout on; `status` only reads. Not thread-safe.

    Both raise the log's `LogError`, and `tick` `OSError` if the registry cannot be read; either may be called again.
    """

    def __init__(
        self,
        log: EventLog,
        settings: Settings,
        registry: Registry | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._log, self._settings, self._clock = log, settings, clock
        self._registry = registry or Registry(settings.adapters_dir)
        topics: tuple[Topic, ...] = ("control", "completions", "feedback")
        self.readers = {topic: TopicReader(log, topic) for topic in topics}
        self._known = Known(Deployment.initial(settings.project))
        self._letters = TopicReader(log, "dead-letter")
        self._orphans = Orphans(settings.project)
        self._counts: dict[str, Counts] = {}
        self._pending: set[str] = set()

    @property
    def deployment(self) -> Deployment:
        return self._known.deployment

    def tick(self) -> list[Event]:
        """Read what is new, decide once, append. Returns the appended events.

        The log is the truth: what was decided holds once it is read back, and nothing else is decided before. Feedback whose
        answer never came is noted on the dead-letter topic, whether or not a trainer runs.
        """
        self.refresh()
        events = [] if self._pending - self._known.seen else self._append(self._decide())
        self._bury()
        self._measure()
        return events

    def refresh(self) -> None:
        """Read the control topic, then completions and feedback, to their ends."""
        self._read_control()
        batch: dict[str, list[Fact]] = {}
        try:
            for topic in ("completions", "feedback"):
                while records := self.readers[topic].poll(_CHUNK):
                    for record in records:
                        self._orphans.add(record)
                        fact = fact_of(record.event) if record.event.project == self._settings.project else None
                        if fact is not None and not self._ended(fact.rollout_id):
                            batch.setdefault(fact.rollout_id, []).append(fact)
        finally:  # what was read counts, also where the log failed after it
            self._count(batch)

    def _count(self, batch: dict[str, list[Fact]]) -> None:
        self._counts = {id: counts for id, counts in self._counts.items() if not self._ended(id)}
        for rollout_id, facts in batch.items():
            self._counts.setdefault(rollout_id, Counts()).add(facts)

    def _read_control(self) -> None:
        for record in self.readers["control"].drain():
            if record.event.project == self._settings.project:
                self._known.take(record.event)

    def evidence(self) -> Evidence:
        """The evidence on the present challenger, as of the last refresh."""
        deployment = self.deployment
        return weigh(
            self._present(),
            deployment,
            self._settings.rollout,
            live=deployment.challenger in self._known.live,
            refused=self._known.refused.get(deployment.challenger or ""),
        )

    def status(self) -> dict[str, Any]:
        """JSON-able: deployment, exposure, evidence and thresholds, what is missing, and all rollouts so far."""
        self.refresh()
        return status_of(
            self.deployment,
            self._present(),
            self.evidence(),
            list(self._known.history.values()),
            self._settings.rollout,
            self._clock(),
        )

    def _present(self) -> Counts:
        return self._counts.get(self.deployment.rollout_id or "") or Counts()

    def _ended(self, rollout_id: str) -> bool:
        history = self._known.history.get(rollout_id)
        return history is not None and history.state in ENDED

    def _decide(self) -> list[RolloutChanged]:
        if self.deployment.challenger is None:
            return self._candidates()
        change = decide(self.deployment, self.evidence(), self._settings.rollout, self._clock())
        return [] if change is None else [change]

    def _candidates(self) -> list[RolloutChanged]:
        """Refusals of adapters not told of yet, then the start of the newest fit child of the champion, if any."""
        manifests, problems = self._registry.scan(self._settings.project)
        changes = [refuse(self.deployment, name, problem.reason) for name, problem in problems.items() if self._fresh(name)]
        for manifest in reversed(manifests):
            if not self._fresh(manifest.id) or (manifest.passed and manifest.parent != self.deployment.champion):
                continue
            reason = self._unfit(manifest)
            if reason is None:
                return [*changes, start(self.deployment, manifest.id)]
            changes.append(refuse(self.deployment, manifest.id, reason))
        return changes

    def _fresh(self, adapter: str) -> bool:
        return rollout_of(adapter) not in self._known.history

    def _unfit(self, manifest: AdapterManifest) -> str | None:
        """Why an adapter must not be served; None if it may be."""
        if not manifest.passed:
            failed = [_words(gate) for gate in manifest.gates if not gate.passed]
            return "gates failed: " + ("; ".join(failed) or "none was run")
        if manifest.id in self._known.refused:
            return f"a gateway refused it: {self._known.refused[manifest.id]}"
        try:
            self._registry.verify(manifest.id, self._settings.engine.max_lora_rank)
        except Refusal as refusal:
            return refusal.reason
        except LookupError as error:
            return str(error)
        return None

    def _append(self, changes: list[RolloutChanged]) -> list[Event]:
        appended: list[Event] = []
        for change in changes:
            history = self._known.history.get(change.rollout_id)
            event = Event(
                id=f"ctl-{change.rollout_id}-{history.changes if history else 0}",
                time=self._clock(),
                project=self._settings.project,
                key=self._settings.project,
                data=change,
            )
            self._pending.add(event.id)
            try:
                self._log.append([event])
            except EventConflict:
                _logger.warning("decided_already", event_id=event.id)
                break  # otherwise, by another controller or by this one before a crash: that is what holds
            except LogError:
                self._pending.discard(event.id)  # it may be in the log or not: the next look tells
                raise
            appended.append(event)
            _logger.info("rollout_changed", rollout=change.rollout_id, state=change.state, reason=change.reason)
        if changes:
            self._read_control()
        return appended

    def _bury(self) -> None:
        for record in self._letters.drain():
            self._orphans.add(record)
        hours, kept = self._settings.train.orphan_hours, letter_hours(self._settings.retention)
        self._orphans.bury(self._log, self._clock(), hours, kept)

    def _measure(self) -> None:
        project = self._settings.project
        for state in get_args(RolloutState):
            metrics.ROLLOUT_STATE.labels(project, state).set(state == self.deployment.state)
        for test, value in self.evidence().figures().items():
            if test not in ("wins", "ties", "losses"):
                metrics.EVIDENCE.labels(project, test).set(value)


def _words(gate: GateResult) -> str:
    value, threshold = ("nothing" if figure is None else f"{figure:.4g}" for figure in (gate.value, gate.threshold))
    return f"{gate.name} {value} against {threshold} {gate.detail}".strip()


def status(settings: Settings) -> dict[str, Any]:
    """`Controller.status` of the settings' project, from the log as it is now."""
    with open_log_of(settings) as log:
        return Controller(log, settings).status()


def run(settings: Settings, *, once: bool = False, json: bool = False, stop: threading.Event | None = None) -> None:
    """Tick every ``settings.rollout.poll_s`` seconds until SIGTERM, SIGINT or ``stop``; once only with ``once``.

    The log or the disk failing is logged and tried again at the next tick; with ``once`` it is raised.
    """
    configure_logs("controller")
    stopped = stop or threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())
    with open_log_of(settings) as log:
        if once:
            events = Controller(log, settings).tick() + RaterWatch(log, settings.project).tick()
            Retention(log, settings.retention).keep()
            if json:
                print(jsonlib.dumps([event.model_dump(mode="json") for event in events]))
            return
        port, host = settings.metrics_port_controller, settings.metrics_host
        metrics.serve_metrics("metrics_port_controller", port, host, metrics.CONTROLLER, metrics.LOG)
        controller, raters = Controller(log, settings), RaterWatch(log, settings.project)
        retention = Retention(log, settings.retention)
        tell_lag("controller", controller.readers.values())
        while not stopped.is_set():
            try:
                controller.tick()
                raters.tick()
                retention.keep()
            except (LogError, OSError, TimeoutError) as error:
                _logger.error("tick_failed", error=str(error))
            stopped.wait(settings.rollout.poll_s)
