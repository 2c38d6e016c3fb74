"""What a JSON Schema may cost: the engine makes a grammar of it, one request after the other, while everybody waits.

A few hundred bytes are enough to keep it busy for seconds: long patterns, repeated groups, counted repetitions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import orjson
from pydantic import BaseModel

from ops.settings import LimitSettings
from serving.errors import InvalidRequest

_MOST_PATTERNS = 16
_LONGEST_PATTERN = 100
_MOST_REPEATED = 1000
_COSTLY = re.compile(r"\{|\)[*+?]")
"""Counted repetition, and a group that is repeated."""

_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")


def check_schemas(value: Any, name: str, limits: LimitSettings) -> None:
    """Raise `InvalidRequest`, with ``name`` for its parameter, for what is too large, too deep or too costly."""
    if value is None:
        return
    patterns: list[str] = []
    depth, level = 0, [value]
    while level := [inner for outer in level for inner in _parts(outer)]:
        depth += 1
        if depth > limits.max_depth:
            text = f"'{name}' has more than {limits.max_depth} lists and objects inside each other: send a flatter schema."
            raise InvalidRequest(text, param=name)
        for inner in level:
            _check_number(inner, name)
            if isinstance(inner, dict):
                patterns += _patterns(inner)
                _check_counts(inner, name)
    _check_patterns(patterns, name)
    size = len(orjson.dumps(value, default=vars))
    if size > limits.max_schema_bytes:
        text = f"'{name}' has {size} bytes of JSON: send at most {limits.max_schema_bytes}."
        raise InvalidRequest(text, param=name)


def _check_number(value: Any, name: str) -> None:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InvalidRequest(f"'{name}' has a number beyond 64 bits: send a smaller one.", param=name)


def _patterns(schema: dict[str, Any]) -> list[str]:
    keyed = schema.get("patternProperties")
    found = [schema.get("pattern"), *(keyed if isinstance(keyed, dict) else ())]
    return [pattern for pattern in found if isinstance(pattern, str)]


def _check_patterns(patterns: list[str], name: str) -> None:
    if len(patterns) > _MOST_PATTERNS:
        raise InvalidRequest(f"'{name}' has {len(patterns)} patterns: send at most {_MOST_PATTERNS}.", param=name)
    for pattern in patterns:
        if len(pattern) > _LONGEST_PATTERN or _COSTLY.search(pattern):
            text = (
                f"'{name}' has the pattern {pattern[:40]!r}: send one of at most {_LONGEST_PATTERN} characters, "
                "without counted repetition ({…}) and without repeated groups."
            )
            raise InvalidRequest(text, param=name)


def _check_counts(schema: dict[str, Any], name: str) -> None:
    for count in _COUNTS:
        most = schema.get(count)
        if isinstance(most, int) and most > _MOST_REPEATED:
            raise InvalidRequest(f"'{name}' has {count} {most}: send at most {_MOST_REPEATED}.", param=name)


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, BaseModel):
        return vars(value).values()
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple) else ()
