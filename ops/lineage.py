"""What became of each adapter: its state, folded from the control topic and its own gates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from feedback.events import AdapterRefused, Event, RolloutChanged
from feedback.log import EventLog, TopicReader
from ops.open_log import open_log_of
from ops.registry import AdapterManifest
from ops.settings import Settings


def states_from(events: Iterable[Event], manifests: Sequence[AdapterManifest]) -> dict[str, str]:
    """State by adapter id: CHAMPION, a rollout state, REJECTED (a gate failed), REFUSED (unsafe), or GATED (waiting)."""
    states = {m.id: "GATED" if m.passed else "REJECTED" for m in manifests}
    for event in events:
        change = event.data
        if isinstance(change, AdapterRefused):
            states[change.adapter] = "REFUSED"
        elif isinstance(change, RolloutChanged):
            for adapter, state in states.items():
                if state == "CHAMPION" and adapter != change.champion:
                    states[adapter] = "RETIRED"
            if change.challenger is not None and states.get(change.challenger) != "REJECTED":
                states[change.challenger] = change.state
            states[change.champion] = "CHAMPION"
    return states


def adapter_states(settings: Settings, manifests: Sequence[AdapterManifest]) -> dict[str, str]:
    """`states_from` the project's log, which is only read."""
    if not settings.log_path.exists():
        return states_from([], manifests)
    with open_log_of(settings) as log:
        return states_in(log, settings.project, manifests)


def states_in(log: EventLog, project: str, manifests: Sequence[AdapterManifest]) -> dict[str, str]:
    """`states_from` a log."""
    records = TopicReader(log, "control").everything()
    return states_from((r.event for r in records if r.event.project == project), manifests)
