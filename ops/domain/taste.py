"""What people like: a weight for each thing that an answer can be."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True)
class Taste:
    """The weights are fields of a domain's own taste, named as the attributes of its answers."""

    def utility(self, answer: object) -> float:
        """Weight times attribute, summed; a flag counts as 0 or 1."""
        return sum((float(getattr(self, field.name)) * float(getattr(answer, field.name)) for field in fields(self)), 0.0)

    def varied(self, rng: random.Random, spread: float) -> Self:
        """Every weight times a log-normal factor; signs stay."""
        return type(self)(*(getattr(self, field.name) * math.exp(rng.gauss(0, spread)) for field in fields(self)))
