"""Other people's data sets: each format is a pure function from a row to what it says, or why it says nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from feedback.importers import arena, helpsteer3, hh_rlhf, pku_saferlhf, ultrafeedback, ultrafeedback_binarized
from feedback.importers.record import Imported

FORMATS: dict[str, Callable[[Any], Imported]] = {
    "hh-rlhf": hh_rlhf.read,
    "ultrafeedback": ultrafeedback.read,
    "ultrafeedback-binarized": ultrafeedback_binarized.read,
    "helpsteer3": helpsteer3.read,
    "pku-saferlhf": pku_saferlhf.read,
    "arena": arena.read,
}
