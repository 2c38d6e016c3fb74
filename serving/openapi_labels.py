"""The labeling routes of the API's description."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from pydantic import BaseModel

from serving.feedback_request import TAGS
from serving.labeling.answers import KINDS, LabelAnswer
from serving.labeling.views import LabelReply, LabelStreamList, LabelTask
from serving.openapi_schemas import Schema, reference

REQUESTS: tuple[type[BaseModel], ...] = get_args(LabelAnswer)
ANSWERS: tuple[type[BaseModel], ...] = (LabelTask, LabelReply, LabelStreamList)

_STREAM = {
    "name": "stream",
    "in": "query",
    "required": True,
    "description": "Its id, or its name.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
}
_TASK = {"name": "task", "in": "path", "required": True, "description": "Its id.", "schema": {"type": "string", "minLength": 1}}
_NOTHING = "Nothing to judge for this key now: ask again later."


def label_paths(
    operation: Callable[..., dict[str, Any]],
    done: Callable[..., dict[str, Any]],
    body: Callable[[Schema, dict[str, Any]], dict[str, Any]],
    headers: dict[str, Any],
) -> dict[str, Any]:
    """``operation``, ``done`` and ``body`` put their parts together as all routes have them; ``headers`` come with answers."""
    listed = operation(
        "list_label_streams",
        "The labeling streams of an annotator's key",
        {200: done(LabelStreamList, headers)},
        401,
        403,
        429,
        500,
    )
    nothing = {"description": _NOTHING, "headers": done(LabelTask, headers)["headers"]}
    asked = operation(
        "next_label_task",
        "An annotator's task: the open one, else a new one",
        {200: done(LabelTask, headers), 204: nothing},
        *(400, 401, 403, 404, 429, 500, 503),
    )
    kept = {"description": "It is on disk.", **done(LabelReply, headers, description=False)}
    answered = operation(
        "answer_label_task",
        "A judgement, a skip, or a flag of harm; the same request again has one effect",
        {201: kept},
        *(400, 401, 403, 404, 408, 409, 413, 429, 500, 503),
    )
    kinds = {name: reference(kind)["$ref"] for name, kind in KINDS.items()}
    judgement = {"oneOf": [reference(kind) for kind in REQUESTS], "discriminator": {"propertyName": "type", "mapping": kinds}}
    example = {"type": "preference", "value": "a", "decision_ms": 5200}
    return {
        "/v1/label/streams": {"get": listed},
        "/v1/label/next": {"get": asked | {"parameters": [_STREAM]}},
        "/v1/label/{task}": {"post": answered | {"parameters": [_TASK], "requestBody": body(judgement, example)}},
    }


def with_reasons(schemas: dict[str, Schema]) -> dict[str, Schema]:
    """Thumbs up and thumbs down, each with its own reasons."""
    return schemas | {name: _thumbs(schemas[name]) for name in ("LabelRating", "TurnRating")}


def _thumbs(rating: Schema) -> Schema:
    kinds = []
    for value in (1, -1):
        reasons = {"type": "array", "maxItems": 8, "items": {"type": "string", "enum": list(TAGS[value])}}
        own = {"value": {"type": "integer", "enum": [value]}, "tags": reasons}
        kinds.append({**rating, "properties": rating["properties"] | own})
    return {"anyOf": kinds}
