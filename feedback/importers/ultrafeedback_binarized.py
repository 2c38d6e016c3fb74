"""HuggingFaceH4/ultrafeedback_binarized: UltraFeedback's best answer and another one, as conversations."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from feedback.importers.record import Columns, Imported, RowRefused, Text, answer_pair, columns, conversation, preferred


class _Turn(Columns):
    role: Text
    content: Text


class _Row(Columns):
    prompt: Text
    chosen: list[_Turn] = Field(min_length=2)
    rejected: list[_Turn] = Field(min_length=2)
    score_chosen: float
    score_rejected: float


def read(row: Any) -> Imported:
    """The last turns are the answers; those with equal scores are no pair. The order in which they were seen is not told."""
    said = columns(_Row, row)
    if said.score_chosen == said.score_rejected:
        raise RowRefused("the scores are equal")
    if said.score_chosen < said.score_rejected:
        raise RowRefused("the chosen answer has the lower score")
    if said.chosen[:-1] != said.rejected[:-1]:
        raise RowRefused("the answers are to different conversations")
    if (said.chosen[-1].role, said.rejected[-1].role) != ("assistant", "assistant"):
        raise RowRefused("the last turn is no answer")
    prompt = conversation((turn.role, turn.content) for turn in said.chosen[:-1])
    if said.prompt.strip() not in (message.content for message in prompt):
        raise RowRefused("the prompt is not in the conversation")
    answers = answer_pair(said.chosen[-1].content, said.rejected[-1].content)
    return Imported(prompt, answers, (preferred("a"),), sides_known=False)
