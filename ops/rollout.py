"""The life of a challenger, as a pure function: GATED -> CANARY -> RAMP ... -> PROMOTED, or ROLLED_BACK, HELD, EXPIRED.

Looking more often changes no error level: each decision is an e-value crossing its threshold, and every end is final.
Strong evidence does not shorten the ramp: each step keeps its users and seconds.
"""

from __future__ import annotations

from math import exp

from feedback.events import RolloutChanged, RolloutState
from ops.deployment import Deployment, rollout_of, salt_of
from ops.evidence.weigh import Evidence, Thresholds, thresholds
from ops.settings import RolloutSettings

_DAY_S = 86_400.0


def start(deployment: Deployment, challenger: str) -> RolloutChanged:
    """A verified challenger that gateways may load; nobody is exposed yet."""
    rollout_id = rollout_of(challenger)
    return RolloutChanged(
        rollout_id=rollout_id,
        state="GATED",
        champion=deployment.champion,
        challenger=challenger,
        salt=salt_of(rollout_id),
        reason="gates passed, files verified",
        promotions=deployment.promotions,
        rollouts=deployment.rollouts + 1,
    )


def refuse(deployment: Deployment, adapter: str, reason: str) -> RolloutChanged:
    """An adapter that is never served. No test was made, so it takes nothing of alpha."""
    return RolloutChanged(
        rollout_id=rollout_of(adapter),
        state="REFUSED",
        champion=deployment.champion,
        challenger=adapter,
        duels=False,
        reason=reason,
        promotions=deployment.promotions,
        rollouts=deployment.rollouts,
    )


def decide(deployment: Deployment, evidence: Evidence, settings: RolloutSettings, now: float) -> RolloutChanged | None:
    """The next change of a running rollout, if it is due at Unix time ``now``."""
    if deployment.challenger is None or deployment.rollout_id is None:
        return None
    limits = thresholds(deployment, settings)
    if evidence.refused is not None:
        return _end(deployment, evidence, "ROLLED_BACK", f"a gateway refused it: {evidence.refused}")
    for name, value in evidence.guardrails.items():
        if value >= limits.guardrail:
            return _end(deployment, evidence, "ROLLED_BACK", f"guardrail {name}: {_passed(value, limits.guardrail)}")
    if deployment.state != "HELD":
        if evidence.mismatch >= limits.mismatch:
            reason = f"sample-ratio mismatch: {_passed(evidence.mismatch, limits.mismatch)}"
            return _change(deployment, evidence, "HELD", reason)
        advanced = _advance(deployment, evidence, settings, limits, now)
        if advanced is not None:
            return advanced
    if now - deployment.started >= settings.expire_days * _DAY_S:
        return _end(deployment, evidence, "EXPIRED", f"no decision within {settings.expire_days:g} days")
    return None


def missing(deployment: Deployment, evidence: Evidence, settings: RolloutSettings, now: float) -> list[str]:
    """What a running rollout waits for, in words; empty when its next change is due."""
    if deployment.state == "GATED":
        return [] if evidence.live else ["a gateway to load the challenger"]
    if deployment.state == "HELD":
        return ["an end: it is held, and expires unless a guardrail rolls it back"]
    step = settings.steps[min(deployment.step, len(settings.steps) - 1)]
    waits = [f"{step.min_users - n} more users in {arm}" for arm, n in evidence.users.items() if n < step.min_users]
    if (left := step.min_seconds - (now - deployment.since)) > 0:
        waits.append(f"{left:.0f} s in this step")
    if deployment.step < len(settings.steps) - 1:
        return waits
    limits = thresholds(deployment, settings)
    if evidence.promotion < limits.promotion:
        waits.append(f"evidence that it is better: log e {evidence.promotion:.2f} of {limits.promotion:.2f}")
    for name, value in evidence.non_inferior.items():
        if value < limits.non_inferior:
            waits.append(f"evidence that {name} is no worse: log e {value:.2f} of {limits.non_inferior:.2f}")
    return waits


def _advance(
    deployment: Deployment, evidence: Evidence, settings: RolloutSettings, limits: Thresholds, now: float
) -> RolloutChanged | None:
    """The next step, or the promotion after the last, once nothing is missing."""
    if missing(deployment, evidence, settings, now):
        return None
    if deployment.state != "GATED" and deployment.step >= len(settings.steps) - 1:
        reason = f"better: {_passed(evidence.promotion, limits.promotion)}, {_duels(evidence)}"
        return _end(deployment, evidence, "PROMOTED", reason)
    index = 0 if deployment.state == "GATED" else deployment.step + 1
    step = settings.steps[index]
    reason = f"step {index + 1} of {len(settings.steps)}: {step.coverage:.0%} of users in the experiment"
    return _change(deployment, evidence, step.state, reason, step=index, coverage=step.coverage)


def _change(
    deployment: Deployment,
    evidence: Evidence,
    state: RolloutState,
    reason: str,
    *,
    step: int | None = None,
    coverage: float | None = None,
) -> RolloutChanged:
    assert deployment.rollout_id is not None
    return RolloutChanged(
        rollout_id=deployment.rollout_id,
        state=state,
        previous=deployment.state,
        champion=deployment.champion,
        challenger=deployment.challenger,
        coverage=deployment.coverage if coverage is None else coverage,
        step=deployment.step if step is None else step,
        salt=deployment.salt,
        reason=reason,
        evidence=evidence.figures(),
        promotions=deployment.promotions,
        rollouts=deployment.rollouts,
    )


def _end(deployment: Deployment, evidence: Evidence, state: RolloutState, reason: str) -> RolloutChanged:
    """An end leaves nobody exposed; a promoted challenger is the champion."""
    change = _change(deployment, evidence, state, reason, coverage=0.0)
    if state != "PROMOTED":
        return change.model_copy(update={"duels": False})
    return change.model_copy(
        update={
            "champion": deployment.challenger,
            "challenger": None,
            "duels": False,
            "promotions": deployment.promotions + 1,
        }
    )


def _passed(value: float, limit: float) -> str:
    return f"e-value {exp(min(value, 50)):.3g} >= {exp(limit):.3g}"


def _duels(evidence: Evidence) -> str:
    return f"won {evidence.duels.rate:.2f} of {evidence.duels.n} duels"
