"""Request bodies: JSON in, a frozen value out, or `InvalidRequest` naming the field."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from serving.errors import InvalidRequest


class RequestModel(BaseModel):
    """Strict: no field that is not known, no number in a string, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


_TYPE = re.compile(r"str|tuple|tuple\[.*|literal\[.*|NamedTool|function-.*")

M = TypeVar("M", bound=BaseModel)


def parse(model: type[M], raw: bytes) -> M:
    """The body as ``model``. Raises `InvalidRequest` for the first thing wrong with it."""
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise explain(error) from error


class _Envelope(RequestModel):
    model_config = RequestModel.model_config | {"extra": "ignore"}
    type: Any


def parse_by_type(kinds: Mapping[str, type[M]], raw: bytes) -> M:
    """The body as the model that its ``type`` names. Raises `InvalidRequest`."""
    kind = parse(_Envelope, raw).type
    model = kinds.get(kind) if isinstance(kind, str) else None
    if model is None:
        text = f"'type' is {str(kind)[:40]!r}: use one of {', '.join(kinds)}."
        raise InvalidRequest(text, param="type", code="unsupported_feedback_type")
    return parse(model, raw)


async def read(model: type[M], request: Request) -> M:
    return parse(model, await request.body())


def explain(error: ValidationError) -> InvalidRequest:
    return explain_first(error.errors(include_url=False, include_input=False)[0])


def explain_first(first: Mapping[str, Any]) -> InvalidRequest:
    """One of pydantic's errors as ours."""
    param = _param(first["loc"])
    match first["type"]:
        case "json_invalid":
            return InvalidRequest(f"The body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}.", code="invalid_json")
        case "model_type" | "model_attributes_type" if param is None:
            return InvalidRequest("The body must be one JSON object.", code="invalid_json")
        case "extra_forbidden":
            text = f"'{param}' is not a parameter of this route: leave it out."
            return InvalidRequest(text, param=param, code="unknown_parameter")
        case "missing":
            return InvalidRequest(f"'{param}' is missing.", param=param, code="missing_required_parameter")
        case "too_short" | "too_long" as which:
            most = first["ctx"]["min_length" if which == "too_short" else "max_length"]
            bound = f"at {'least' if which == 'too_short' else 'most'} {most}"
            return InvalidRequest(f"'{param}' has {first['ctx']['actual_length']} entries: send {bound}.", param=param)
        case "wrong_together":
            return InvalidRequest(first["msg"], param=".".join(filter(None, (param, first["ctx"]["param"]))))
        case _:
            return InvalidRequest(f"'{param}' is not valid: {_reason(first['msg'])}.", param=param)


def wrong_together(param: str, message: str) -> PydanticCustomError:
    """For validators of a whole model: what is wrong with one field in company of the others, in a sentence that names it."""
    return PydanticCustomError("wrong_together", "{message}", {"param": param, "message": message})


def listed(choices: Sequence[str]) -> str:
    """``'a', 'b' or 'c'``, as pydantic says it."""
    *most, last = map(repr, choices)
    return f"{', '.join(most)} or {last}" if most else last


def _param(location: tuple[int | str, ...]) -> str | None:
    """A place as OpenAI writes it: ``messages[0].role``. Of a field of several types, pydantic also names the type."""
    text = ""
    for part in location:
        if isinstance(part, str) and _TYPE.fullmatch(part):
            continue
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".") or None


def _reason(message: str) -> str:
    text = message.removeprefix("Value error, ").rstrip(".")
    return text[:1].lower() + text[1:]
