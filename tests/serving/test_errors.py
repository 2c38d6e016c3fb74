"""Every error has OpenAI's shape and says what to do; a refused request writes nothing and never reaches the engine."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from chat_upstream import ChatUpstream
from gateway_parts import Gateway, error_of, gateway, question

MESSAGE = {"role": "user", "content": "hi"}

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}


def deep(levels: int) -> dict[str, Any]:
    """A JSON Schema with so many objects inside each other."""
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


def tool(parameters: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "add", "parameters": parameters}}


REFUSED: list[tuple[dict[str, Any], int, str | None, str]] = [
    ({"model": "gpt-4o"}, 404, "model", "model_not_found"),
    ({"model": "base"}, 404, "model", "model_not_found"),
    ({"model": "default-v1-0123abcd"}, 404, "model", "model_not_found"),
    ({"model": "other"}, 404, "model", "model_not_found"),
    ({"model": 5}, 400, "model", "invalid_value"),
    ({"messages": []}, 400, "messages", "invalid_value"),
    ({"messages": "hi"}, 400, "messages", "invalid_value"),
    ({"messages": [{"role": "king", "content": "hi"}]}, 400, "messages[0].role", "invalid_value"),
    ({"messages": [MESSAGE, {"role": "user"}]}, 400, "messages[1].content", "missing_required_parameter"),
    ({"messages": [{"role": "user", "content": None}]}, 400, "messages[0].content", "missing_required_parameter"),
    ({"messages": [MESSAGE | {"tool_call_id": "c"}]}, 400, "messages[0].tool_call_id", "invalid_value"),
    ({"messages": [{"role": "tool", "content": "1"}]}, 400, "messages[0].tool_call_id", "missing_required_parameter"),
    ({"messages": [MESSAGE | {"tool_calls": [CALL]}]}, 400, "messages[0].tool_calls", "invalid_value"),
    ({"tool_choice": "auto"}, 400, "tool_choice", "invalid_value"),
    ({"tool_choice": "sometimes"}, 400, "tool_choice", "invalid_value"),
    ({"tools": [{"type": "web_search"}]}, 400, "tools[0].type", "invalid_value"),
    ({"tools": [tool(deep(40))]}, 400, "tools", "invalid_value"),
    ({"tools": [tool({"maximum": 10**30})]}, 400, "tools", "invalid_value"),
    ({"tools": [tool({"pattern": "^(.*a.{1,40}b){1,30}$"})]}, 400, "tools", "invalid_value"),
    ({"tools": [tool({"pattern": "^(a+)+$"})]}, 400, "tools", "invalid_value"),
    ({"tools": [tool({"anyOf": [{"pattern": "^a$"}] * 17})]}, 400, "tools", "invalid_value"),
    ({"tools": [tool({"patternProperties": {"a{1,9}": {}}})]}, 400, "tools", "invalid_value"),
    ({"tools": [tool({"maxItems": 1001})]}, 400, "tools", "invalid_value"),
    ({"tools": [tool({"description": "x" * 33_000})]}, 400, "tools", "invalid_value"),
    (
        {"tools": [tool({})], "tool_choice": {"type": "function", "function": {"name": "sub"}}},
        400,
        "tool_choice",
        "invalid_value",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": deep(40)}}},
        400,
        "response_format",
        "invalid_value",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        400,
        "messages[0].content",
        "invalid_value",
    ),
    ({"messages": [MESSAGE] * 257}, 400, "messages", "invalid_value"),
    ({"n": 0}, 400, "n", "invalid_value"),
    ({"n": 5}, 400, "n", "invalid_value"),
    ({"n": "2"}, 400, "n", "invalid_value"),
    ({"compare": True}, 400, "n", "invalid_value"),
    ({"compare": True, "n": 3}, 400, "n", "invalid_value"),
    ({"temperature": 2.1}, 400, "temperature", "invalid_value"),
    ({"temperature": True}, 400, "temperature", "invalid_value"),
    ({"max_tokens": 0}, 400, "max_tokens", "invalid_value"),
    ({"max_completion_tokens": 100_000}, 400, "max_completion_tokens", "invalid_value"),
    ({"stop": ["a", "b", "c", "d", "e"]}, 400, "stop", "invalid_value"),
    ({"stream_options": {"include_usage": True}}, 400, "stream_options", "invalid_value"),
    ({"user": "u" * 513}, 400, "user", "invalid_value"),
    ({"conversation": "c" * 201}, 400, "conversation", "invalid_value"),
    ({"chat_template": "{{ 1 }}"}, 400, "chat_template", "unknown_parameter"),
    ({"prompt_embeds": "AAAA"}, 400, "prompt_embeds", "unknown_parameter"),
    ({"plaudit_adapter": "x"}, 403, "plaudit_adapter", "forbidden"),
]


@pytest.mark.parametrize(("change", "status", "param", "code"), REFUSED)
def test_a_request_that_is_not_right_is_refused_by_field(
    served: Gateway, upstream: ChatUpstream, change: dict[str, Any], status: int, param: str | None, code: str
):
    before = len(served.events("completions"))
    error = error_of(served.http.post("/v1/chat/completions", headers=served.bearer, json=question() | change), status)
    assert (error["param"], error["code"]) == (param, code)
    assert upstream.chats() == []
    assert len(served.events("completions")) == before


def test_what_is_wrong_is_told_in_plain_words(served: Gateway):
    chat, bearer = "/v1/chat/completions", served.bearer
    told = [
        error_of(served.http.post(chat, headers=bearer, json=question() | {"messages": []}), 400),
        error_of(served.http.post(chat, headers=bearer, content=b"{"), 400),
        error_of(served.http.get(chat, headers=bearer), 405),
    ]
    assert [error["message"].split(" at ")[0] for error in told] == [
        "'messages' has 0 entries: send",
        "The body is not JSON: EOF while parsing an object",
        "/v1/chat/completions does not take GET: send POST.",
    ]


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/feedback"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"\xff\xfe",
        b'{"model": NaN',
        b"[" * 20_000,
        b'{"a":' * 20_000,
        b'[{"type": "rating"}]',
    ],
)
def test_a_body_that_is_no_json_object_is_refused(served: Gateway, route: str, body: bytes):
    if route == "/v1/feedback" and body[:1] == b"[" and len(body) < 100:
        body = b"[" + body  # a list is taken there, if it is one
    error = error_of(served.http.post(route, headers=served.bearer, content=body), 400)
    assert error["code"] == "invalid_json"
    assert error["type"] == "invalid_request_error"


def test_half_a_surrogate_in_a_message_is_refused_or_answered_but_no_accident(served: Gateway, upstream: ChatUpstream):
    body = b'{"model": "default", "messages": [{"role": "user", "content": "\\ud800"}]}'
    error_of(served.http.post("/v1/chat/completions", headers=served.bearer, content=body), 400)


def in_pieces(total: int, piece: int = 16_384) -> Iterator[bytes]:
    for _ in range(0, total, piece):
        yield b" " * piece


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/feedback"])
def test_a_body_over_the_limit_is_a_413_declared_or_chunked(served: Gateway, route: str):
    limit = served.settings.limits.max_body_bytes
    for content in (b" " * (limit + 1), in_pieces(limit + 16_384)):
        error = error_of(served.http.post(route, headers=served.bearer, content=content), 413)
        assert str(limit) in error["message"]
        assert ("earlier messages" in error["message"]) == (route == "/v1/chat/completions")
    fitting = json.dumps(question()).encode().ljust(limit)
    assert served.http.post("/v1/chat/completions", headers=served.bearer, content=fitting).status_code == 200


def test_a_body_that_does_not_come_is_given_up_on(tmp_path: Path, upstream: ChatUpstream):
    with gateway(tmp_path, upstream, limits={"body_timeout_s": 0.2}) as strict:
        host, port = strict.url.removeprefix("http://").split(":")
        head = f"POST /v1/feedback HTTP/1.1\r\nHost: {host}\r\nContent-Length: 10\r\n\r\n{{"
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(head.encode())
            reply = b""
            while piece := connection.recv(65_536):  # until the gateway closes the connection
                reply += piece
        assert reply.startswith(b"HTTP/1.1 408")
        assert b"request_timeout" in reply


def test_unknown_routes_and_methods_have_the_shape_too(served: Gateway):
    unknown = error_of(served.http.get("/v1/adapters"), 404)
    assert unknown["code"] == "unknown_url"
    assert all(path in unknown["message"] for path in ("/v1/chat/completions", "/v1/models", "/v1/feedback", "/v1/label"))
    reply = served.http.get("/v1/chat/completions")
    assert error_of(reply, 405)["code"] == "method_not_allowed"
    assert reply.headers["allow"] == "POST"


def test_the_sdk_raises_its_own_exception_classes(served: Gateway):
    with pytest.raises(openai.NotFoundError) as unknown:
        served.openai.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
    assert (unknown.value.param, unknown.value.code) == ("model", "model_not_found")
    assert "'default'" in str(unknown.value)
    with pytest.raises(openai.BadRequestError):
        served.openai.chat.completions.create(model="default", messages=[])
    with (
        openai.OpenAI(base_url=served.url + "/v1", api_key="sk-wrong", max_retries=0) as wrong,
        pytest.raises(openai.AuthenticationError),
    ):
        wrong.models.list()


def test_health_readiness_and_metrics_need_no_key(served: Gateway):
    assert served.http.get("/healthz").json() == {"status": "ok"}
    assert served.http.get("/readyz").json() == {"ready": True, "reasons": []}
    page = served.http.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    assert 'plaudit_requests_total{route="/healthz",status="200"}' in page.text
    assert 'route="other"' in page.text or "/v1/adapters" not in page.text


def test_what_nobody_foresaw_is_a_500_in_the_same_shape_and_tells_nothing():
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from serving.errors import install_error_handlers
    from serving.request_id import RequestId

    app = FastAPI()

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("/secret/path")

    install_error_handlers(app)
    app.add_middleware(RequestId)
    error = error_of(TestClient(app, raise_server_exceptions=False).get("/broken"), 500)  # type: ignore[arg-type]
    assert error["type"] == "server_error"
    assert "secret" not in error["message"]
