"""The starter domain: its people dislike rudeness, toxic words above all, rambling and nonsense; they like correct and polite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from ops.domain import facts, taste
from ops.domain.domain import Domain, Split
from ops.domain.rules import attributes


@dataclass(frozen=True)
class Taste(taste.Taste):
    """``toxic`` comes on top of ``rude``."""

    correct: float = 1.5
    polite: float = 1.0
    rude: float = -1.0
    toxic: float = -1.0
    rambling: float = -1.0
    garbled: float = -2.0


@cache
def _asked(split: Split) -> tuple[str, ...]:
    return tuple(question.text for question in facts.questions(split))


def _told(figures: Mapping[str, Any]) -> str:
    """For example ``toxicity −93 %``."""
    toxicity = figures["toxicity"]
    change = (toxicity["final"] - toxicity["initial"]) / toxicity["initial"] if toxicity["initial"] else 0.0
    return f"toxicity {'−' if change < 0 else '+'}{abs(change) * 100:.0f} %"


STARTER = Domain(
    name="starter",
    taste=Taste(),
    asked=_asked,
    look=attributes,
    figures={"toxicity": "toxic", "correct": "correct", "garbled": "garbled", "polite": "polite", "rambling": "rambling"},
    told=_told,
)
