"""What is deployed: one frozen value per project, folded from the control topic."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from feedback.events import BASE, RolloutChanged, RolloutState

Ended = Literal["PROMOTED", "ROLLED_BACK", "EXPIRED", "REFUSED"]
ENDED: tuple[Ended, ...] = ("PROMOTED", "ROLLED_BACK", "EXPIRED", "REFUSED")
"""States in which nobody is exposed to a challenger any more."""


@dataclass(frozen=True)
class Deployment:
    """Who serves a project's users, and in which proportions. ``step`` indexes the settings' exposure steps."""

    project: str
    champion: str = BASE
    challenger: str | None = None
    coverage: float = 0.0
    salt: str = ""
    rollout_id: str | None = None
    duels: bool = False
    state: RolloutState | None = None
    promotions: int = 0
    rollouts: int = 0
    step: int = 0
    since: float = 0.0
    """Unix time of the last change."""
    started: float = 0.0
    """Unix time of the first change of this rollout; it expires by it."""

    @classmethod
    def initial(cls, project: str) -> Deployment:
        """The base model serves everybody."""
        return cls(project)

    @property
    def adapters(self) -> tuple[str, ...]:
        """Those that serve beside or instead of the base."""
        return tuple(adapter for adapter in (self.champion, self.challenger) if adapter is not None and adapter != BASE)

    def after(self, change: RolloutChanged, time: float) -> Deployment:
        """The deployment once ``change`` (of Unix time ``time``) holds. An ended rollout leaves a champion and nothing else."""
        live = change.challenger is not None and change.state not in ENDED
        same = live and change.rollout_id == self.rollout_id
        return Deployment(
            project=self.project,
            champion=change.champion,
            challenger=change.challenger if live else None,
            coverage=change.coverage if live else 0.0,
            salt=change.salt if live else "",
            rollout_id=change.rollout_id if live else None,
            duels=change.duels and live,
            state=change.state,
            promotions=change.promotions,
            rollouts=change.rollouts,
            step=change.step if live else 0,
            since=time,
            started=self.started if same else time,
        )


def rollout_of(adapter: str) -> str:
    """The id of an adapter's rollout. It has one at most: replay and crashes cannot start a second."""
    return f"ro-{adapter}"


def salt_of(rollout_id: str) -> str:
    """A rollout's salt: other rollouts put the same users into other arms."""
    return hashlib.sha256(f"salt\0{rollout_id}".encode()).hexdigest()[:16]
