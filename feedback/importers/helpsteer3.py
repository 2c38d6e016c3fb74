"""nvidia/HelpSteer3, preference: two answers and how much better one is (Wang et al. 2025, arXiv:2505.11475)."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from feedback.importers.record import Columns, Imported, Text, answer_pair, columns, conversation, preferred


class _Turn(Columns):
    role: Text
    content: Text


class _Row(Columns):
    context: list[_Turn]
    response1: Text
    response2: Text
    overall_preference: int = Field(ge=-3, le=3)


def read(row: Any) -> Imported:
    """Below 0 the first answer is better, above 0 the second; 0 is a tie. How much better is not kept."""
    said = columns(_Row, row)
    answers = answer_pair(said.response1, said.response2)
    prompt = conversation((turn.role, turn.content) for turn in said.context)
    verdict = preferred("a" if said.overall_preference < 0 else "b" if said.overall_preference > 0 else "tie")
    return Imported(prompt, answers, (verdict,), sides_known=True)
