"""What one training cycle did, as one value: printed by ``--json``, kept in the commit, appended to ``cycles.jsonl``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from feedback.events import Frozen
from ops.registry import GateResult

Outcome = Literal["published", "rejected", "no_signal", "diverged", "failed"]

UNCOMMITTED = frozenset[Outcome](("diverged", "failed"))
"""Nothing was kept, and the votes are still new: the next cycle has the same number."""

Trigger = Literal["asked", "labels", "champion", "drift"]
"""Why a cycle began: somebody asked for it, enough new labels, another champion, or people judge otherwise than they did."""


class CycleRecord(Frozen):
    """``published``: every gate passed; ``rejected``: an adapter, kept but never served; ``no_signal``: no reward model worth
    learning from, so no adapter; ``diverged``, ``failed``: nothing was kept, and the votes are still new.
    """

    cycle: int
    outcome: Outcome
    trigger: Trigger = "asked"
    reason: str = ""
    adapter: str | None = None
    parent: str
    votes: int = Field(description="Standing joined votes.")
    new_votes: int
    effective_labels: float | None = Field(default=None, description="What the new ones can teach, see trainer/effective.py.")
    raters: int
    divided_by: Literal["rater", "prompt"] = "rater"
    reward_model: dict[str, Any] = Field(default_factory=dict, description="See trainer.report.RewardReport.")
    judge: dict[str, Any] = Field(default_factory=dict)
    steps: tuple[dict[str, float], ...] = ()
    ended_by: str = Field(default="", description="What ended the training: its steps, its time, or the KL; see trainer.improve.")
    softened: float = Field(default=1.0, description="The factor that the adapter was scaled by, see trainer/soften.py.")
    gates: tuple[GateResult, ...] = ()
    offsets: dict[str, dict[int, list[int]]] = Field(
        default_factory=dict, description="What was read of the log: [from, to) by topic and partition."
    )
    resumed_after: int = Field(default=0, description="Steps that a trainer which was killed had done before.")
    seconds: dict[str, float] = Field(default_factory=dict, description="By stage.")
    finished: float = Field(description="Unix time.")
