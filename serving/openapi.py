"""The API's own description, OpenAPI 3.0: every route of the public port, what it takes, and every status it answers with.

Chat and feedback read their bodies themselves, so FastAPI cannot know them; this is put together from the same models.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

from pydantic import BaseModel

from ops.settings import LimitSettings
from serving.api_answers import (
    ChatCompletion,
    ChatCompletionChunk,
    ErrorBody,
    FeedbackOutcomes,
    FeedbackReply,
    Health,
    Model,
    ModelList,
    Readiness,
)
from serving.chat_request import ChatRequest
from serving.feedback_request import MOST_AT_ONCE, REQUESTS, TAGS
from serving.openapi_labels import ANSWERS as label_answers
from serving.openapi_labels import REQUESTS as label_requests
from serving.openapi_labels import label_paths, with_reasons
from serving.openapi_schemas import NULL, Schema, component_schemas, reference

_ABOUT = """Chat as OpenAI's API has it, and feedback on the answers. OpenAI's own clients work unchanged.

Every answer has an `x-request-id`; every error is `{"error": {"message", "type", "param", "code"}}`. Before a request reaches a
route, a connection may be refused: 400 (not HTTP/1.1), 408 (headers too late), 503 (too many connections)."""

_STATUSES = {
    400: "Something about the request is wrong; `param` names it.",
    401: "No API key, or one that is unknown, expired or revoked; for feedback, a receipt that is broken.",
    403: "This key, or this web page, may not do that.",
    404: "There is no such thing, or not for this key.",
    408: "The body did not arrive in time.",
    409: "The Idempotency-Key came with another body before.",
    413: "The body is too large.",
    429: "This key has used up what it may for now; `retry-after` says when there is room again.",
    500: "The server failed; `x-request-id` is in its log.",
    502: "The model failed to answer.",
    503: "Not now: no model, or no log; try again after `retry-after`.",
    504: "The answer took longer than the gateway waits for one.",
}

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_REQUEST_ID = {"x-request-id": {"description": "The request's own id.", "required": True, "schema": _TEXT}}
_RETRY_AFTER = {"retry-after": {"description": "Seconds.", "required": True, "schema": {"type": "integer", "minimum": 1}}}
_SHOULD_RETRY = {"x-should-retry": {"description": "What OpenAI's clients go by.", "schema": {"enum": ["true", "false"]}}}
_OF_ERRORS: dict[int, dict[str, Any]] = {
    401: {"www-authenticate": {"description": "`Bearer`, unless it is a receipt that is broken.", "schema": _TEXT}},
    409: _SHOULD_RETRY,
    429: _RETRY_AFTER,
    503: _RETRY_AFTER | _SHOULD_RETRY,
}
_LEFT = {
    f"x-ratelimit-{which}-{what}": {"description": f"Of a limited key: {words} a minute.", "schema": _COUNT}
    for what in ("requests", "tokens")
    for which, words in (("limit", f"{what} it may use"), ("remaining", f"{what} it has left"))
}
_RECEIPT = {"x-plaudit-receipt": {"description": "The same as in the body.", "required": True, "schema": _TEXT}}

_EVENT = {
    "type": "object",
    "description": "One event of a stream. A failure in mid-stream is an event with an `ErrorBody`, and the end.",
    "properties": {"data": {"type": "string", "description": "A `ChatCompletionChunk` as JSON; at last `[DONE]`."}},
    "required": ["data"],
}


def document(limits: LimitSettings) -> dict[str, Any]:
    """The whole description, for a gateway with these limits."""
    return {
        "openapi": "3.0.3",
        "info": {"title": "Plaudit", "version": metadata.version("plaudit"), "description": _ABOUT},
        "security": [{"apiKey": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer", "description": "plaudit keys create"}},
            "schemas": dict(sorted((_requests(limits) | _answers()).items())),
        },
    }


def _paths() -> dict[str, Any]:
    model = {
        "name": "model",
        "in": "path",
        "required": True,
        "description": "A project.",
        "schema": {"type": "string", "minLength": 1},
    }
    return {
        "/v1/chat/completions": {"post": _chat()},
        "/v1/feedback": {"post": _feedback()},
        **label_paths(_operation, _json, _body, _LEFT),
        "/v1/models": {
            "get": _operation("list_models", "The projects of this key", {200: _json(ModelList, _LEFT)}, 401, 403, 429, 500)
        },
        "/v1/models/{model}": {
            "get": _operation("retrieve_model", "One project", {200: _json(Model, _LEFT)}, 401, 403, 404, 429, 500)
            | {"parameters": [model]}
        },
        "/healthz": {"get": _open(_operation("healthz", "The process lives", {200: _json(Health)}, 500))},
        "/readyz": {
            "get": _open(_operation("readyz", "Able to answer, or why not", {200: _json(Readiness), 503: _json(Readiness)}, 500))
        },
        "/metrics": {"get": _open(_operation("metrics", "Prometheus metrics", {200: _content("text/plain", _TEXT)}, 500))},
    }


def _chat() -> dict[str, Any]:
    done = _json(ChatCompletion, _RECEIPT | _LEFT)
    done["content"]["text/event-stream"] = {"schema": _EVENT}
    conversation = {
        "name": "x-plaudit-conversation",
        "in": "header",
        "description": "The same as `conversation` in the body, which goes before it.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    }
    example = {"model": "default", "messages": [{"role": "user", "content": "Hello"}], "user": "ada"}
    made = _operation(
        "create_chat_completion",
        "One answer or several, plain or streamed",
        {200: done},
        *(400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 504),
    )
    return made | {"parameters": [conversation], "requestBody": _body(reference(ChatRequest), example)}


def _feedback() -> dict[str, Any]:
    key = {
        "name": "idempotency-key",
        "in": "header",
        "description": "A repeated request with the same key has one effect.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    }
    receipt = {
        "name": "x-plaudit-receipt",
        "in": "header",
        "description": "The same as `receipt` in the body, which goes before it.",
        "schema": _TEXT,
    }
    made = _operation(
        "create_feedback",
        "What somebody says about an answer, by API key or by receipt alone; or a list of such",
        {
            201: {
                "description": "It is on disk; whether it changes anything may depend on `condition`.",
                **_json(FeedbackReply, _LEFT, description=False),
            },
            207: {"description": "Of a list: an outcome for each.", **_json(FeedbackOutcomes, _LEFT, description=False)},
        },
        *(400, 401, 403, 404, 408, 409, 413, 429, 500, 503),
    )
    example = {"type": "rating", "value": 1, "receipt": "as it came with the answer"}
    one = {
        "oneOf": [reference(kind) for kind in REQUESTS.values()],
        "discriminator": {"propertyName": "type", "mapping": {name: reference(kind)["$ref"] for name, kind in REQUESTS.items()}},
    }
    entry = {"description": "As one alone. What is wrong with it is told in its own outcome, and concerns no other."}
    body = {"anyOf": [one, {"type": "array", "minItems": 1, "maxItems": MOST_AT_ONCE, "items": entry}]}
    return made | {"parameters": [key, receipt], "requestBody": _body(body, example), "security": [{"apiKey": []}, {}]}


def _operation(name: str, summary: str, answers: dict[int, Any], *errors: int) -> dict[str, Any]:
    refused = {status: _error(status) for status in errors}
    responses = {str(status): answer for status, answer in sorted((answers | refused).items())}
    return {"operationId": name, "summary": summary, "responses": responses}


def _open(operation: dict[str, Any]) -> dict[str, Any]:
    """For anyone, without a key."""
    return operation | {"security": []}


def _error(status: int) -> dict[str, Any]:
    headers = _REQUEST_ID | _OF_ERRORS.get(status, {})
    content = {"application/json": {"schema": reference(ErrorBody)}}
    return {"description": _STATUSES[status], "headers": headers, "content": content}


def _json(model: type[BaseModel], headers: dict[str, Any] | None = None, *, description: bool = True) -> dict[str, Any]:
    answer = {"headers": _REQUEST_ID | (headers or {}), "content": {"application/json": {"schema": reference(model)}}}
    return {"description": "Done.", **answer} if description else answer


def _content(media_type: str, schema: Schema) -> dict[str, Any]:
    return {"description": "Done.", "headers": _REQUEST_ID, "content": {media_type: {"schema": schema}}}


def _body(schema: Schema, example: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}


def _answers() -> dict[str, Schema]:
    models = (
        ChatCompletion,
        ChatCompletionChunk,
        ErrorBody,
        FeedbackOutcomes,
        FeedbackReply,
        Health,
        Model,
        ModelList,
        Readiness,
        *label_answers,
    )
    return component_schemas(models, "serialization")


def _requests(limits: LimitSettings) -> dict[str, Schema]:
    """What may be sent, with the bounds that are this deployment's own, and rules that the models check in code."""
    schemas = component_schemas((ChatRequest, *REQUESTS.values(), *label_requests), "validation")
    chat = schemas["ChatRequest"]["properties"]
    chat["n"]["maximum"] = limits.max_n
    chat["messages"]["maxItems"] = limits.max_messages
    for name in ("max_tokens", "max_completion_tokens"):
        chat[name]["maximum"] = limits.max_tokens
    messages = _messages(schemas.pop("ChatMessage"))
    chat["messages"]["items"] = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in messages]}
    return (
        with_reasons(schemas)
        | messages
        | {
            "RatingRequest": _rating(schemas["RatingRequest"]),
            "ImplicitRequest": _implicit(schemas["ImplicitRequest"]),
        }
    )


def _messages(message: Schema) -> dict[str, Schema]:
    """The roles' kinds of messages: what each must have, and what may be nothing but null in it."""
    part = {
        "type": "object",
        "properties": {"type": {"type": "string", "enum": ["text"]}, "text": _TEXT},
        "required": ["type", "text"],
    }
    content: Schema = {"anyOf": [_TEXT, {"type": "array", "items": part}]}
    calls = {name: value for name, value in message["properties"]["tool_calls"].items() if name != "nullable"}
    call_id = {**_TEXT, "maxLength": 200, "description": "Which call this answers."}

    def kind(roles: list[str], required: list[str], **properties: Schema) -> Schema:
        own = {"role": {"type": "string", "enum": roles}, "tool_calls": NULL, "tool_call_id": NULL, **properties}
        return {**message, "properties": message["properties"] | own, "required": ["role", *required]}

    return {
        "TextMessage": kind(["system", "developer", "user"], ["content"], content=content),
        "AssistantMessage": kind(["assistant"], ["content"], content=content, tool_calls={**calls, "nullable": True}),
        "AssistantToolCalls": kind(["assistant"], ["tool_calls"], content=NULL, tool_calls={**calls, "minItems": 1}),
        "ToolMessage": kind(["tool"], ["content", "tool_call_id"], content=content, tool_call_id=call_id),
    }


def _rating(rating: Schema) -> Schema:
    """A thumb up, a thumb down, or none, each with its own reasons."""
    kinds = []
    for value, tags in TAGS.items():
        reasons: Schema = {"type": "array", "maxItems": 8, "items": {**_TEXT, "enum": list(tags)}}
        own = {
            "value": {"type": "integer", "enum": [value]},
            "tags": reasons if tags else {**reasons, "maxItems": 0, "items": _TEXT},
        }
        kinds.append({**rating, "properties": rating["properties"] | own})
    return {"description": rating["description"], "anyOf": kinds}


def _implicit(implicit: Schema) -> Schema:
    """Dwelling takes time; nothing else does."""
    actions = implicit["properties"]["action"]["enum"]
    time = {name: value for name, value in implicit["properties"]["ms"].items() if name != "nullable"}
    kinds = [
        implicit | {"properties": implicit["properties"] | {"action": {**_TEXT, "enum": named}, "ms": ms}, "required": required}
        for named, ms, required in (
            (["dwell"], time, [*implicit["required"], "ms"]),
            ([action for action in actions if action != "dwell"], NULL, implicit["required"]),
        )
    ]
    return {"description": implicit["description"], "anyOf": kinds}
