"""The general domain: its people like short, complete answers to the point, and nothing less than phrases that say nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from ops.domain import taste
from ops.domain.domain import Domain, Split
from ops.domain.general.questions import questions
from ops.domain.general.rules import attributes


@dataclass(frozen=True)
class Taste(taste.Taste):
    """``empty`` outweighs whatever else can be wrong with an answer."""

    on_topic: float = 1.0
    complete: float = 1.0
    wordy: float = -1.0
    repeating: float = -1.0
    empty: float = -5.0


@cache
def _asked(split: Split) -> tuple[str, ...]:
    return tuple(question.text for question in questions(split))


def _told(figures: Mapping[str, Any]) -> str:
    """For example ``words 58 → 17, on topic 95 % → 97 %, empty 0 % → 1 %``."""
    shares = (f"{name.replace('_', ' ')} {_change(figures[name], 100)} %" for name in ("on_topic", "empty"))
    return ", ".join((f"words {_change(figures['words'])}", *shares))


def _change(figure: Mapping[str, float], times: int = 1) -> str:
    return f"{figure['initial'] * times:.0f} → {figure['final'] * times:.0f}"


GENERAL = Domain(
    name="general",
    taste=Taste(),
    asked=_asked,
    look=attributes,
    figures={name: name for name in ("on_topic", "complete", "short", "repeating", "empty")},
    told=_told,
)
