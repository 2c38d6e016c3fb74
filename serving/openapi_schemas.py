"""Pydantic's JSON Schemas as OpenAPI 3.0 writes them: the vendored Swagger UI reads no later version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

Schema = dict[str, Any]

_REF = "#/components/schemas/{model}"
NULL: Schema = {"type": "string", "nullable": True, "enum": [None]}
"""Nothing but null, which OpenAPI 3.0 has no type for."""

_OF_SCHEMAS = ("properties", "patternProperties")
"""Keywords whose value is a table of schemas by name, not a schema."""


def reference(model: type[BaseModel]) -> Schema:
    return {"$ref": _REF.format(model=model.__name__)}


def component_schemas(models: Sequence[type[BaseModel]], mode: Literal["validation", "serialization"]) -> dict[str, Schema]:
    """The schemas of the models and of all they are made of, by name. Raises ValueError when two models share a name."""
    _, top = models_json_schema([(model, mode) for model in models], ref_template=_REF)
    schemas: dict[str, Schema] = top.get("$defs", {})
    if twice := [name for name in schemas if "__" in name]:
        raise ValueError(f"{', '.join(twice)}: two models have one name; rename one")
    return {name: as_openapi_30(schema) for name, schema in schemas.items()}


def as_openapi_30(schema: Any) -> Any:
    """One JSON Schema (2020-12, as pydantic writes it) in the dialect of OpenAPI 3.0."""
    if isinstance(schema, list):
        return [as_openapi_30(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        name: {key: as_openapi_30(part) for key, part in value.items()} if name in _OF_SCHEMAS else as_openapi_30(value)
        for name, value in schema.items()
        if name != "title"
    }
    if "const" in made:
        made["enum"] = [made.pop("const")]
    if made.get("default", 0) is None:
        del made["default"]
    if made.get("type") == "null":
        return {**made, **NULL}
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in made:
            made |= {bound: made[exclusive], exclusive: True}
    return _nullable(made)


def _nullable(schema: Schema) -> Schema:
    """A choice between something and null, as that something, nullable."""
    choices = schema.get("anyOf", [])
    others = [choice for choice in choices if not _is_null(choice)]
    if len(others) == len(choices):
        return schema
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    if len(others) > 1 or any("$ref" in other for other in others):  # "nullable" holds beside a type only
        return rest | {"anyOf": [*others, NULL]}
    only = dict(others[0])
    if "enum" in only:
        only["enum"] = [*only["enum"], None]
    return rest | only | {"nullable": True}


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("enum") == [None]
