"""Which adapters are wanted, by whom, and how far each is on its way. `serving.swap` has the engines follow.

Projects want what the control topic says, running answers what they have leased, operators what they have pinned. What a
project's requests see changes in one assignment: the flip.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import structlog

from feedback.events import BASE, RolloutChanged
from ops.deployment import Deployment
from ops.registry import project_of
from serving.lifecycle import Adapter, State

_log = structlog.get_logger(__name__)

PIN_S = 600.0
"""How long an adapter stays loaded after an operator has asked for it by name."""


class Demand:
    """One event loop's. ``adapters`` holds every adapter that is used, or still is on an engine."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.adapters: dict[str, Adapter] = {}
        self.wanted: dict[str, Deployment] = {}
        self.served: dict[str, Deployment] = {}
        """What requests see, by project."""
        self.leases: Counter[str] = Counter()
        """Running answers, by adapter."""
        self._pins: dict[str, float] = {}
        self._monotonic = monotonic

    def take(self, adapter: str) -> None:
        """Lease it: until it is given back, it is not unloaded."""
        self.leases[adapter] += 1

    def give_back(self, adapter: str) -> None:
        self.leases[adapter] -= 1
        if not self.leases[adapter]:
            del self.leases[adapter]

    def pin(self, adapter: str) -> None:
        """Keep it for `PIN_S`."""
        self._pins[adapter] = self._monotonic() + PIN_S

    def change(self, project: str, change: RolloutChanged, at: float) -> None:
        """Take a project's new deployment, unless it names another project's adapters. ``at``: Unix seconds."""
        for adapter in (change.champion, change.challenger or BASE):
            if project_of(adapter) not in (None, project):
                _log.error("foreign_adapter", project=project, adapter=adapter)
                return
        before = self.wanted.get(project) or Deployment.initial(project)
        self.wanted[project] = before.after(change, at)

    def admit(self, found: Iterable[str]) -> None:
        """Adapters that are used now and were not, and those ``found`` on engines, enter the table."""
        now = self._monotonic()
        self._pins = {adapter: until for adapter, until in self._pins.items() if until > now}
        for id in self.used():
            known = self.adapter(id)
            if known.state == State.DRAINING:
                known.stray = False
                known.move(State.VERIFIED, now)
        for id in found:
            if id not in self.adapters and project_of(id) is not None:
                self.adapters[id] = Adapter(id, now, State.DRAINING, stray=True)

    def adapter(self, id: str) -> Adapter:
        """The table's entry; a new one if there is none."""
        return self.adapters.setdefault(id, Adapter(id, self._monotonic()))

    def used(self) -> list[str]:
        """Adapters that requests see or are to see, those of running deployments first."""
        named = [a for d in (*self.served.values(), *self.wanted.values()) for a in d.adapters]
        return list(dict.fromkeys([*named, *self._pins]))

    def to_supply(self) -> list[str]:
        """What engines are to be given: what is leased, served and wanted, in this order."""
        return [id for id in dict.fromkeys([*self.leases, *self.used()]) if id != BASE]

    def in_service(self) -> set[str]:
        """What an engine must have to be ready: all that is served or leased."""
        return {a for d in self.served.values() for a in d.adapters} | (set(self.leases) - {BASE})

    def wanting(self, adapter: str) -> list[str]:
        """Projects that are to serve it."""
        return [project for project, wanted in self.wanted.items() if adapter in wanted.adapters]

    def unserved(self) -> set[str]:
        """Projects whose champion requests do not see yet; refused ones are not waited for."""
        return {
            project
            for project, wanted in self.wanted.items()
            if wanted.champion != BASE and not self.is_refused(wanted.champion) and project not in self.served
        }

    def flip(self) -> None:
        """Let requests see what is wanted as far as it is live. Without a live champion the former deployment stays."""
        for project, wanted in self.wanted.items():
            if not self._has_gone_live(wanted.champion):
                continue
            live = wanted.challenger is None or self._has_gone_live(wanted.challenger)
            self.served[project] = wanted if live else replace(wanted, challenger=None, coverage=0.0, rollout_id=None)

    def is_refused(self, adapter: str) -> bool:
        known = self.adapters.get(adapter)
        return known is not None and known.state == State.REFUSED

    def _has_gone_live(self, adapter: str) -> bool:
        known = self.adapters.get(adapter)
        return adapter == BASE or (known is not None and known.state == State.LIVE)
