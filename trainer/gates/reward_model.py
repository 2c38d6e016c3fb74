"""What a reward model has to pass before a policy that learnt from it is served: one verdict for each thing asked."""

from __future__ import annotations

from ops.registry import GateResult
from ops.settings import GateSettings
from trainer.gates.calibrated import calibrated
from trainer.gates.golden import golden
from trainer.gates.kept import kept
from trainer.gates.learned import learned
from trainer.gates.length_bias import length_bias
from trainer.report import RewardReport


def reward_gates(name: str, report: RewardReport, gates: GateSettings) -> tuple[GateResult, ...]:
    """``name``: "reward" or "judge", which each verdict's name begins with. The first says whether it is worth learning from."""
    later, length = report.later, report.length
    return (
        learned(f"{name}_accuracy", report),
        kept(f"{name}_kept", later.now, later.before, later.n, gates.max_accuracy_loss),
        calibrated(f"{name}_calibration", report.measures, report.n, gates.max_calibration_error),
        length_bias(f"{name}_length_bias", length.expected, length.label, length.n, gates.max_length_bias),
        golden(f"{name}_golden", report.golden.value, report.golden.n, gates.min_golden),
    )
