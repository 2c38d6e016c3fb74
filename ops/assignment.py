"""Who gets which adapter: a pure function of the deployment and the unit, so every gateway answers alike.

A unit is a user hash, or a conversation where there is no user. Its bucket u is uniform on [0, 1). At coverage c the
challenger has u in [0, c/2), its concurrent control u in [1/2, 1/2 + c/2); the rest get the champion and are not
analysed. Raising c only adds units to an arm: nobody changes between the challenger and the control.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from feedback.events import Arm
from ops.deployment import Deployment


@dataclass(frozen=True)
class Assignment:
    """One unit's arm, the adapter that serves it, and how likely every arm was."""

    unit: str
    bucket: float
    arm: Arm
    adapter: str
    propensity: float
    propensities: dict[Arm, float]


def bucket_of(salt: str, unit: str) -> float:
    """u = SHA-256(salt, NUL, unit) / 2^64, its first 53 bits: a float in [0, 1), never rounded up to 1."""
    digest = hashlib.sha256(f"{salt}\0{unit}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2.0**53


def assign(deployment: Deployment, unit: str) -> Assignment:
    """The unit's arm. Without a challenger, or at coverage 0, everybody gets the champion with propensity 1."""
    bucket = bucket_of(deployment.salt, unit)
    share = deployment.coverage / 2
    if deployment.challenger is None or share == 0:
        return Assignment(unit, bucket, "champion", deployment.champion, 1.0, {"champion": 1.0})
    propensities: dict[Arm, float] = {"champion": 1 - 2 * share, "control": share, "challenger": share}
    arm = _arm(bucket, share)
    adapter = deployment.challenger if arm == "challenger" else deployment.champion
    return Assignment(unit, bucket, arm, adapter, propensities[arm], propensities)


def _arm(bucket: float, share: float) -> Arm:
    if bucket < share:
        return "challenger"
    return "control" if 0.5 <= bucket < 0.5 + share else "champion"


def sides(coin: float) -> tuple[int, int]:
    """Display order of two answers for a coin uniform on [0, 1): the index of the one shown first (a), then of the other."""
    return (0, 1) if coin < 0.5 else (1, 0)
