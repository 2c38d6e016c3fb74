"""What an importer makes of a row, and how it refuses one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from feedback.events import Judgement, Message, Preference

_ROLES: dict[str, Literal["system", "user", "assistant"]] = {"system": "system", "user": "user", "assistant": "assistant"}

_T = TypeVar("_T", bound="Columns")


class RowRefused(ValueError):
    """A row that says nothing that can be used. ``reason`` is one of few, ``detail`` is this row's own."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def _encodable(text: str) -> str:
    """Half a surrogate pair, which JSON can have, is no text that could be stored."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("is no valid Unicode") from error
    return text


Text = Annotated[str, AfterValidator(_encodable)]


class Columns(BaseModel):
    """The columns of a row that an importer needs, of exactly these types; it ignores all others."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


@dataclass(frozen=True)
class Verdict:
    """A judgement of some of a row's answers: their indices, in the order in which the judgement speaks of them."""

    sides: tuple[int, ...]
    judgement: Judgement
    by: str = ""
    """Tells apart several people who judged one row."""


@dataclass(frozen=True)
class Imported:
    """A row as all formats have it: a conversation that ends with a question, answers to it, and what was said of them."""

    prompt: tuple[Message, ...]
    answers: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    sides_known: bool
    """The answers are in the order shown. If not, a toss decides: a winner that is always first would teach its position."""
    models: tuple[str, ...] = ()
    """Who answered, if the row says so."""
    rater: str = ""
    """The data set's own id of who judged, if it has one."""
    row_id: str = ""
    """The data set's own id of the row, if it has one: two people may say the same of the same."""


def columns(model: type[_T], row: Any) -> _T:
    """The row's columns. Raises `RowRefused` that names the first one that is missing or wrong."""
    if not isinstance(row, Mapping):
        raise RowRefused("the row is no object with columns")
    try:
        return model.model_validate(dict(row))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    column = ".".join(str(part) for part in first["loc"] if isinstance(part, str))
    if first["type"] == "missing":
        raise RowRefused(f"column {column!r} is missing")
    raise RowRefused(f"column {column!r}: {first['msg'].removeprefix('Value error, ')}")


def conversation(turns: Iterable[tuple[str, str]]) -> tuple[Message, ...]:
    """Turns (role, text) as a prompt, without the blanks around them. Raises `RowRefused` if the last is no question."""
    messages = []
    for role, text in turns:
        if role not in _ROLES:
            raise RowRefused("a turn has an unknown role", repr(role[:40]))
        messages.append(Message(role=_ROLES[role], content=text.strip()))
    if not messages or messages[-1].role != "user" or not messages[-1].content:
        raise RowRefused("the prompt does not end with a question")
    return tuple(messages)


def answer_pair(first: str, second: str) -> tuple[str, str]:
    """Two answers, without the blanks around them. Raises `RowRefused` if one says nothing, or both the same."""
    a, b = first.strip(), second.strip()
    if not a or not b:
        raise RowRefused("an answer is empty")
    if a == b:
        raise RowRefused("the answers are the same")
    return a, b


def preferred(value: Literal["a", "b", "tie", "both_bad"], *tags: str, by: str = "") -> Verdict:
    """A preference between a row's two answers."""
    return Verdict((0, 1), Preference(value=value, tags=tags), by)
