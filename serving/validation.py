"""Request bodies: JSON in, a frozen value out, or `InvalidRequest` naming the field."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from serving.errors import InvalidRequest


class RequestModel(BaseModel):
    """Strict: no field that is not known, no number in a string, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


_TYPE = re.compile(r"str|tuple|tuple\[.*|literal\[.*|NamedTool|function-.*")

_SECRET = re.compile(r"(.*[._])?(receipt|secret|password|token|key)(_.*)?")
"""Fields whose values are not repeated in an error."""

_SHOWN = 60
"""Characters of a value that are."""

OBJECT = "The body must be one JSON object."

M = TypeVar("M", bound=BaseModel)


def parse(model: type[M], raw: bytes, shape: str = OBJECT) -> M:
    """The body as ``model``. Raises `InvalidRequest` for the first thing wrong with it; ``shape`` if it is no object."""
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise explain(error, model, shape) from error


class _Envelope(RequestModel):
    model_config = RequestModel.model_config | {"extra": "ignore"}
    type: Any = None


def parse_by_type(kinds: Mapping[str, type[M]], raw: bytes, shape: str = OBJECT) -> M:
    """The body as the model that its ``type`` names. Raises `InvalidRequest`."""
    envelope = parse(_Envelope, raw, shape)
    if "type" not in envelope.model_fields_set:
        raise _missing("type", tuple(kinds))
    kind = envelope.type
    model = kinds.get(kind) if isinstance(kind, str) else None
    if model is None:
        text = f"'type' is {str(kind)[:40]!r}: use one of {', '.join(kinds)}."
        raise InvalidRequest(text, param="type", code="unsupported_feedback_type")
    return parse(model, raw)


def explain(error: ValidationError, model: type[BaseModel] | None = None, shape: str = OBJECT) -> InvalidRequest:
    """The first thing wrong, as ours. ``model``, if given, knows what may be sent instead."""
    first, *others = error.errors(include_url=False)
    if first["type"] != "missing":
        return explain_first(first, shape)
    param = _param(first["loc"]) or ""
    told = _missing(param, _choices(model, param))
    unknown = [other["loc"] for other in others if other["type"] == "extra_forbidden"]
    if name := next((_param(loc) for loc in unknown if loc[:-1] == first["loc"][:-1]), None):
        told.message += f" '{name[:40]}', which was sent, is no field of this."
    return told


def explain_first(first: Mapping[str, Any], shape: str = OBJECT) -> InvalidRequest:
    """One of pydantic's errors as ours."""
    param = _param(first["loc"])
    match first["type"]:
        case "json_invalid":
            return InvalidRequest(f"The body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}.", code="invalid_json")
        case "model_type" | "model_attributes_type" if param is None:
            return InvalidRequest(shape, code="invalid_json")
        case "extra_forbidden":
            text = f"'{param}' is not a parameter of this route: leave it out."
            return InvalidRequest(text, param=param, code="unknown_parameter")
        case "missing":
            return _missing(param or "", ())
        case "string_too_short" | "string_too_long" as which:
            return _wrong_length(param, len(first["input"]), "characters", which, first["ctx"])
        case "too_short" | "too_long" as which:
            return _wrong_length(param, first["ctx"]["actual_length"], "entries", which, first["ctx"])
        case "wrong_together":
            return InvalidRequest(first["msg"], param=".".join(filter(None, (param, first["ctx"]["param"]))))
        case _:
            return InvalidRequest(f"{_named(param, first)} not valid: {_reason(first['msg'])}.", param=param)


def _missing(param: str, choices: Sequence[Any]) -> InvalidRequest:
    fix = f"send {listed(choices)}" if choices else "send it too"
    return InvalidRequest(f"'{param}' is missing: {fix}.", param=param, code="missing_required_parameter")


def _wrong_length(param: str | None, actual: int, unit: str, which: str, bounds: Mapping[str, Any]) -> InvalidRequest:
    bound = f"at least {bounds['min_length']}" if which.endswith("short") else f"at most {bounds['max_length']}"
    return InvalidRequest(f"'{param}' has {actual} {unit}: send {bound}.", param=param)


def _choices(model: type[BaseModel] | None, name: str) -> tuple[Any, ...]:
    """What a field of its own may be, where that is a closed set."""
    field = None if model is None else model.model_fields.get(name)
    closed = field is not None and get_origin(field.annotation) is Literal
    return get_args(field.annotation) if field is not None and closed else ()


def _named(param: str | None, error: Mapping[str, Any]) -> str:
    """The field and its value, as the start of a sentence. Secrets, and what has parts, are not repeated."""
    if param is None:
        return "The request is"
    if "input" not in error or _SECRET.fullmatch(param):
        return f"'{param}' is"
    return f"'{param}' is {_shown(error['input'])}, which is"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "a list"
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    return json.dumps(text, ensure_ascii=False) if isinstance(value, str) else text


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
