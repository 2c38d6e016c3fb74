"""A domain: what people ask about, and how they like to be answered. All that a crowd, a demo and an evaluation know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ops.domain.taste import Taste

Split = Literal["train", "held_out"]


@dataclass(frozen=True)
class Domain:
    """``gold`` is its people's shared taste, without noise.

    ``asked``: the questions that people ask ("train"), or that only evaluations ask. ``look``: what an answer to a question is.
    ``figures``: what a report calls a share of the answers -> the attribute that these have. ``told``: a report's figures beside
    the win rate, in a few words.
    """

    name: str
    taste: Taste
    asked: Callable[[Split], Sequence[str]]
    look: Callable[[str, str], object]
    figures: Mapping[str, str]
    told: Callable[[Mapping[str, Any]], str]

    def gold(self, question: str, answer: str) -> float:
        """The shared taste's utility, without noise."""
        return self.taste.utility(self.look(question, answer))

    def preference(self, question: str, a: str, b: str) -> float:
        """1.0 where ``a`` is better by the shared taste, 0.0 where ``b`` is, 0.5 where they are as good."""
        lead = self.gold(question, a) - self.gold(question, b)
        return 0.5 if lead == 0 else float(lead > 0)
