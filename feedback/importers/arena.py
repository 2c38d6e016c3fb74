"""Chatbot Arena, in all its layouts: 33k and 100k (``winner``), 140k (parts of content), 55k (lists as JSON texts).

Source: Chiang et al. 2024, arXiv:2403.04132.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from feedback.importers.record import Columns, Imported, RowRefused, Text, answer_pair, columns, conversation, preferred

_Value = Literal["a", "b", "tie", "both_bad"]

_WINNERS: dict[str, _Value] = {
    "model_a": "a",
    "model_b": "b",
    "tie": "tie",
    "tie (bothbad)": "both_bad",
    "both_bad": "both_bad",
}

_ID = Text | int | None


class _Part(Columns):
    type: Text
    text: Text | None = None


class _Turn(Columns):
    role: Text
    content: Text | list[_Part]


class _Vote(Columns):
    model_a: Text
    model_b: Text
    winner: Text
    conversation_a: list[_Turn]
    conversation_b: list[_Turn]
    question_id: _ID = None
    id: _ID = None
    judge: _ID = None
    judge_hash: _ID = None
    evaluation_session_id: _ID = None


class _Wide(Columns):
    """The layout of the 55k set."""

    model_a: Text
    model_b: Text
    winner_model_a: int
    winner_model_b: int
    winner_tie: int
    prompt: Text
    response_a: Text
    response_b: Text
    id: _ID = None


_texts: TypeAdapter[list[Text]] = TypeAdapter(list[Text], config={"strict": True})

_Dialogue = list[tuple[str, str]]


def read(row: Any) -> Imported:
    """The vote of one battle. Only those in which both answered the same conversation: later turns answer other answers."""
    if isinstance(row, dict) and "winner" not in row and "winner_model_a" in row:
        return _of_wide(columns(_Wide, row))
    return _of_vote(columns(_Vote, row))


def _of_vote(said: _Vote) -> Imported:
    if said.winner not in _WINNERS:
        raise RowRefused("the winner is unknown", repr(said.winner[:40]))
    judge = next((str(value) for value in (said.judge, said.judge_hash, said.evaluation_session_id) if value is not None), "")
    row_id = said.question_id if said.question_id is not None else said.id
    dialogues = [[(turn.role, _text(turn.content)) for turn in turns] for turns in (said.conversation_a, said.conversation_b)]
    return _battle(dialogues[0], dialogues[1], _WINNERS[said.winner], (said.model_a, said.model_b), judge, row_id)


def _of_wide(said: _Wide) -> Imported:
    flags = (said.winner_model_a, said.winner_model_b, said.winner_tie)
    if sorted(flags) != [0, 0, 1]:
        raise RowRefused("the winner is unknown", repr(flags))
    values: tuple[_Value, ...] = ("a", "b", "tie")
    questions = _list("prompt", said.prompt)
    dialogues = []
    for column, text in (("response_a", said.response_a), ("response_b", said.response_b)):
        answers = _list(column, text)
        if len(answers) != len(questions):
            raise RowRefused("there is not one answer to each question")
        dialogues.append(
            [turn for q, a in zip(questions, answers, strict=True) for turn in (("user", q), ("assistant", a))],
        )
    return _battle(dialogues[0], dialogues[1], values[flags.index(1)], (said.model_a, said.model_b), "", said.id)


def _battle(a: _Dialogue, b: _Dialogue, value: _Value, models: tuple[str, str], judge: str, row_id: _ID) -> Imported:
    if not a or not b or (a[-1][0], b[-1][0]) != ("assistant", "assistant"):
        raise RowRefused("the last turn is no answer")
    if a[:-1] != b[:-1]:
        raise RowRefused("the answers are to different conversations")
    return Imported(
        prompt=conversation(a[:-1]),
        answers=answer_pair(a[-1][1], b[-1][1]),
        verdicts=(preferred(value),),
        sides_known=True,
        models=models,
        rater=judge,
        row_id="" if row_id is None else str(row_id),
    )


def _text(content: str | list[_Part]) -> str:
    if isinstance(content, str):
        return content
    if any(part.type != "text" or part.text is None for part in content):
        raise RowRefused("a turn has more than text")
    return "".join(part.text or "" for part in content)


def _list(column: str, text: str) -> list[str]:
    try:
        return _texts.validate_python(json.loads(text))
    except (ValidationError, ValueError, RecursionError) as error:
        raise RowRefused(f"column {column!r} is no JSON list of texts") from error
