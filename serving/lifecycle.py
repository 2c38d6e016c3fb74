"""The life of an adapter in a gateway, as a table.

WANTED ──verified──▶ VERIFIED ──on every ready engine, probed──▶ LIVE ──unused──▶ DRAINING ──unloaded──▶ GONE
   └───────────────────┴──▶ REFUSED                                ◀──wanted again──┘
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    WANTED = "wanted"
    VERIFIED = "verified"
    LIVE = "live"
    DRAINING = "draining"
    GONE = "gone"
    REFUSED = "refused"


NEXT: dict[State, frozenset[State]] = {
    State.WANTED: frozenset({State.VERIFIED, State.REFUSED, State.DRAINING}),
    State.VERIFIED: frozenset({State.LIVE, State.REFUSED, State.DRAINING}),
    State.LIVE: frozenset({State.DRAINING}),
    State.DRAINING: frozenset({State.VERIFIED, State.GONE}),
    State.GONE: frozenset(),
    State.REFUSED: frozenset(),
}


@dataclass
class Adapter:
    """One adapter on its way. ``since``: when its state began, by the monotonic clock in seconds."""

    id: str
    since: float
    state: State = State.WANTED
    reason: str = ""
    """Why it was refused."""
    tries: int = 0
    """How often an engine has failed to take it."""
    stray: bool = False
    """Found on an engine: another gateway's, or of an earlier life of this one."""

    def move(self, state: State, now: float) -> None:
        """Raises ValueError for a step that is not in `NEXT`."""
        if state == self.state:
            return
        if state not in NEXT[self.state]:
            raise ValueError(f"adapter {self.id}: {self.state} cannot become {state}")
        self.state, self.since = state, now
