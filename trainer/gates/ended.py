"""Do answers come to an end by themselves as often as before? One that is cut at its limit was going on."""

from __future__ import annotations

from collections.abc import Sequence

from ops.registry import GateResult
from trainer.gates.shares import at_least


def ended(flags: Sequence[bool], standard: float, max_loss: float) -> GateResult:
    """The share with an EOS token, beside the best of the champions so far."""
    return at_least("ended", flags, standard, max_loss, "that end by themselves")
