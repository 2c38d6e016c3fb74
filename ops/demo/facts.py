"""What the demo knows of the loop, read where anybody could: the log, the registry, the trainer's cycle records."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from feedback.events import AdapterLive, CompletionCreated, Event, FeedbackSet, RolloutChanged
from feedback.join import Joiner
from feedback.log import EventLog, TopicReader
from ops.lineage import states_from
from ops.registry import AdapterManifest, Registry
from ops.settings import Settings


@dataclass
class Facts:
    """A view of the loop that `refresh` brings up to date; counts are of distinct events."""

    settings: Settings
    log: EventLog
    joiner: Joiner = field(default_factory=Joiner)
    feedback_ids: set[str] = field(default_factory=set)
    served: Counter[str] = field(default_factory=Counter)
    first_token: dict[str, float] = field(default_factory=dict)
    """Unix time of the first token that somebody got from an adapter."""
    live: dict[str, AdapterLive] = field(default_factory=dict)
    control: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._readers = [TopicReader(self.log, topic) for topic in ("completions", "feedback", "control")]
        self._registry = Registry(self.settings.adapters_dir)

    def refresh(self) -> None:
        """Read what is new in the log."""
        for reader in self._readers:
            for record in reader.drain():
                self._take(record.event)
                if reader.topic != "control":
                    self.joiner.add(record)

    def _take(self, event: Event) -> None:
        data = event.data
        if isinstance(data, CompletionCreated):
            adapter = data.exposure.adapter
            self.served[adapter] += 1
            if data.first_token_ms is not None:
                begun = event.time - (data.latency_ms - data.first_token_ms) / 1000
                self.first_token[adapter] = min(self.first_token.get(adapter, begun), begun)
        elif isinstance(data, FeedbackSet):
            self.feedback_ids.add(data.feedback_id)
        else:
            self.control.append(event)
            if isinstance(data, AdapterLive) and not data.reload:
                self.live.setdefault(data.adapter, data)

    def rollout_changes(self) -> list[RolloutChanged]:
        return [event.data for event in self.control if isinstance(event.data, RolloutChanged)]

    @property
    def promotions(self) -> int:
        return sum(change.state == "PROMOTED" for change in self.rollout_changes())

    @property
    def rollout(self) -> RolloutChanged | None:
        """The project's deployment as of its last change."""
        changes = self.rollout_changes()
        return changes[-1] if changes else None

    @property
    def joined(self) -> int:
        return self.joiner.counts.joined

    def manifests(self) -> list[AdapterManifest]:
        return self._registry.list(self.settings.project)

    def states(self) -> dict[str, str]:
        return states_from(self.control, self.manifests())

    def cycles(self) -> list[dict[str, Any]]:
        """The trainer's records of its cycles, oldest first."""
        path = self.settings.trainer_dir / "cycles.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines()]

    def swap_seconds(self) -> dict[str, float]:
        """Publication to the first token somebody got, by adapter."""
        published = {m.id: m.published for m in self.manifests()}
        return {a: self.first_token[a] - published[a] for a in published if a in self.first_token}
