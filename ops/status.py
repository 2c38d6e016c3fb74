"""A rollout's state for people and programs, JSON-able; nothing here decides."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from feedback.events import RolloutChanged, RolloutState
from ops.deployment import Deployment
from ops.evidence.counts import METRICS, Counts
from ops.evidence.duels import log_above, log_below
from ops.evidence.intervals import duel_interval
from ops.evidence.weigh import Evidence, thresholds
from ops.rollout import missing
from ops.settings import RolloutSettings


@dataclass(frozen=True)
class History:
    """One rollout from its first change on; times are Unix seconds."""

    rollout_id: str
    challenger: str
    state: RolloutState | None = None
    reason: str = ""
    started: float = 0.0
    ended: float = 0.0
    """Time of the last change."""
    changes: int = 0
    states: tuple[str, ...] = ()
    evidence: dict[str, float] = field(default_factory=dict)

    def after(self, change: RolloutChanged, time: float) -> History:
        return replace(
            self,
            state=change.state,
            reason=change.reason,
            ended=time,
            changes=self.changes + 1,
            states=(*self.states, change.state),
            evidence=change.evidence,
        )


def status_of(
    deployment: Deployment,
    counts: Counts,
    evidence: Evidence,
    history: list[History],
    settings: RolloutSettings,
    now: float,
) -> dict[str, Any]:
    """Who serves, whom, on what evidence, and what the next change waits for. Evidence is in log e-values.

    ``win_rate`` is the challenger's, over first votes, with an interval that holds at any time at level ``alpha``.
    """
    running = deployment.challenger is not None
    tested = deployment if running else replace(deployment, rollouts=deployment.rollouts + 1)  # or the next to be tested
    limits = thresholds(tested, settings)
    low, high = duel_interval(evidence.duels, settings.alpha)
    waits = missing(deployment, evidence, settings, now) if running else ["an adapter of the champion's that passed its gates"]
    return {
        "project": deployment.project,
        "state": deployment.state,
        "champion": deployment.champion,
        "challenger": deployment.challenger,
        "coverage": deployment.coverage,
        "step": deployment.step,
        "reason": history[-1].reason if history else "",
        "waiting_for": waits,
        "users": dict(counts.assigned()),
        "users_in_step": dict(evidence.users),
        "crossed": counts.crossed,
        "duels": asdict(evidence.duels),
        "win_rate": {"value": evidence.duels.rate, "low": low, "high": high, "n": evidence.duels.n},
        "events": {m: {"challenger": f.challenger, "control": f.control} for m in METRICS for f in [counts.firsts(m)]},
        "evidence": {
            "promotion": evidence.promotion,
            "promote": evidence.promote,
            "guardrails": evidence.guardrails,
            "non_inferior": evidence.non_inferior,
            "mismatch": evidence.mismatch,
            "position_bias": max(log_above(counts.left), log_below(counts.left)),
        },
        "thresholds": {key: value for key, value in asdict(limits).items() if key != "alpha"},
        "alpha": limits.alpha,
        "rollouts": deployment.rollouts,
        "promotions": deployment.promotions,
        "history": [asdict(entry) | {"states": list(entry.states)} for entry in history],
    }
