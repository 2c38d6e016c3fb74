"""Does the reward model know more than which vote is the most frequent one?"""

from __future__ import annotations

from typing import Protocol

from ops.evidence.intervals import wilson
from ops.registry import GateResult

ONE_SIGMA = 0.3173
"""Two-sided level of one standard error."""


class Figures(Protocol):
    """See `trainer.report.RewardReport`."""

    @property
    def n(self) -> int: ...

    @property
    def accuracy(self) -> float | None: ...

    @property
    def majority(self) -> float | None: ...


def learned(name: str, figures: Figures) -> GateResult:
    """Held-out accuracy, less one standard error, over the majority's."""
    if figures.accuracy is None or figures.majority is None:
        return GateResult(name=name, passed=False, detail="no held-out vote with a right answer")
    low = wilson(figures.accuracy * figures.n, figures.n, ONE_SIGMA)[0]
    return GateResult(
        name=name,
        passed=low > figures.majority,
        value=low,
        threshold=figures.majority,
        detail=f"accuracy {figures.accuracy:.3f} on n={figures.n} votes of others, less a standard error, "
        f"against the majority's {figures.majority:.3f}",
    )
