"""Counts and settings to evidence: everything that decides about a rollout, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log

from ops.deployment import Deployment
from ops.evidence import duels, users
from ops.evidence.combine import alpha_at, log_mean
from ops.evidence.counts import ARMS, METRICS, Analysed, Counts
from ops.evidence.duels import Duels
from ops.evidence.srm import log_mismatch
from ops.settings import RolloutSettings


@dataclass(frozen=True)
class Evidence:
    """Natural logarithms of e-values, and the counts behind them."""

    promote: dict[str, float] = field(default_factory=dict)
    """duel, thumbs_up, thumbs_down; their mean promotes."""
    guardrails: dict[str, float] = field(default_factory=dict)
    non_inferior: dict[str, float] = field(default_factory=dict)
    mismatch: float = 0.0
    duels: Duels = field(default_factory=Duels)
    users: dict[Analysed, int] = field(default_factory=lambda: dict.fromkeys(ARMS, 0))
    """Units exposed in the present step, by assigned arm."""
    live: bool = False
    """A gateway has the challenger loaded and probed."""
    refused: str | None = None
    """Why a gateway would not take the challenger."""

    @property
    def promotion(self) -> float:
        return log_mean(list(self.promote.values())) if self.promote else 0.0

    def figures(self) -> dict[str, float]:
        """For an event or a metric: log e-values by test, and counts."""
        figures = {"promotion": self.promotion, "mismatch": self.mismatch}
        for group in ("promote", "guardrails", "non_inferior"):
            figures |= {f"{group}/{name}": value for name, value in getattr(self, group).items()}
        counts = {"wins": self.duels.wins, "ties": self.duels.ties, "losses": self.duels.losses}
        return figures | {name: float(value) for name, value in counts.items()}


def weigh(counts: Counts, deployment: Deployment, settings: RolloutSettings, *, live: bool, refused: str | None) -> Evidence:
    """The evidence on the deployment's challenger."""
    seen = counts.duels
    firsts = {metric: counts.firsts(metric) for metric in METRICS}
    assigned = counts.assigned()
    promote = {
        "duel": duels.log_above(seen),
        "thumbs_up": users.log_increase(firsts["thumbs_up"]),
        "thumbs_down": users.log_decrease(firsts["thumbs_down"]),
    }
    guardrails = {
        "thumbs_down": users.log_increase(firsts["thumbs_down"]),
        "error": users.log_increase(firsts["error"]),
        "duel": duels.log_below(seen),
    }
    non_inferior = {
        "duel": duels.log_above(seen, 0.5 - settings.duel_margin),
        "thumbs_down": users.log_not_above(firsts["thumbs_down"], settings.guardrail_ratio),
    }
    return Evidence(
        promote=promote,
        guardrails={name: guardrails[name] for name in settings.guardrails},
        non_inferior={name: non_inferior[name] for name in settings.non_inferior},
        mismatch=log_mismatch([assigned[arm] for arm in ARMS], [0.5, 0.5]),
        duels=seen,
        users=counts.at(deployment.coverage),
        live=live,
        refused=refused,
    )


@dataclass(frozen=True)
class Thresholds:
    """Where a rollout is decided, as natural logarithms like `Evidence`."""

    alpha: float
    promotion: float
    guardrail: float
    non_inferior: float
    mismatch: float


def thresholds(deployment: Deployment, settings: RolloutSettings) -> Thresholds:
    """The thresholds of the deployment's rollout, the ``deployment.rollouts``-th of its project."""
    alpha = alpha_at(max(1, deployment.rollouts), deployment.promotions, settings.alpha)
    return Thresholds(
        alpha=alpha,
        promotion=log(1 / alpha),
        guardrail=log(max(1, len(settings.guardrails)) / settings.rollback_alpha),
        non_inferior=log(settings.guardrail_evidence),
        mismatch=log(settings.srm_limit),
    )
