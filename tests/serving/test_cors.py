"""Web pages of other origins: which may send feedback with a receipt, and which may read the answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from chat_upstream import ChatUpstream
from fastapi import FastAPI, Request
from gateway_parts import Gateway, error_of, gateway, serving_app, until
from starlette.datastructures import Headers

from serving.cors import Cors, Origins, foreign_origin
from serving.errors import install_error_handlers
from serving.keys import KeyStore
from serving.known_keys import KnownKeys

OURS, THEIRS, NOBODYS = "https://app.example", "https://other.example:8443", "https://evil.example"
ALLOW = "access-control-allow-origin"


@pytest.fixture(scope="module")
def served(_upstream: ChatUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(Path(tmp_path_factory.mktemp("data")), _upstream) as running:
        running.keys.set_origins("default", [OURS])
        running.keys.set_origins("other", [THEIRS])
        yield running


@pytest.fixture(scope="module")
def receipt(served: Gateway) -> str:
    text: str = served.chat(user="ada")["plaudit"]["receipt"]
    return text


def rate(served: Gateway, origin: str | None, body: dict[str, Any], **headers: str) -> httpx.Response:
    sent = headers if origin is None else headers | {"origin": origin}
    return served.http.post("/v1/feedback", headers=sent, json={"type": "rating", "value": 1} | body)


@pytest.mark.parametrize("origin", [OURS, THEIRS])
def test_a_preflight_says_what_pages_of_a_named_origin_may_send(served: Gateway, origin: str):
    asked = {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    reply = served.http.options("/v1/feedback", headers=asked)
    assert (reply.status_code, reply.headers[ALLOW], reply.headers["vary"]) == (204, origin, "origin")
    assert reply.headers["access-control-allow-methods"] == "POST"
    assert reply.headers["access-control-allow-headers"] == "content-type, idempotency-key, x-plaudit-receipt"
    assert int(reply.headers["access-control-max-age"]) > 0
    assert "access-control-allow-credentials" not in reply.headers


def test_a_preflight_of_an_origin_that_nobody_names_is_refused(served: Gateway):
    for origin in (NOBODYS, "null", "https://app.example.evil", "http://app.example"):
        reply = served.http.options("/v1/feedback", headers={"origin": origin, "access-control-request-method": "POST"})
        assert error_of(reply, 403)["code"] == "origin_not_allowed"
        assert ALLOW not in reply.headers
        assert reply.headers["vary"] == "origin"


def test_a_page_of_the_projects_origin_rates_with_a_receipt_alone_and_reads_the_answer(served: Gateway, receipt: str):
    reply = rate(served, OURS, {"receipt": receipt})
    assert (reply.status_code, reply.headers[ALLOW], reply.headers["vary"]) == (201, OURS, "origin")
    in_header = rate(served, OURS, {}, **{"x-plaudit-receipt": receipt})
    assert (in_header.status_code, in_header.headers[ALLOW]) == (201, OURS)


@pytest.mark.parametrize("origin", [THEIRS, NOBODYS, "null", "https://app.example:444"])
def test_a_page_of_an_origin_that_the_receipts_project_does_not_name_is_refused_and_nothing_is_written(
    served: Gateway, receipt: str, origin: str
):
    before = served.written()
    reply = rate(served, origin, {"receipt": receipt})
    error = error_of(reply, 403)
    assert (error["code"], error["param"]) == ("origin_not_allowed", "origin")
    assert "plaudit projects origins" in error["message"]
    assert ALLOW not in reply.headers
    assert served.written() == before
    with_key = served.http.post(
        "/v1/feedback", headers=served.bearer | {"origin": origin}, json={"type": "rating", "value": 1, "receipt": receipt}
    )
    assert error_of(with_key, 403)["code"] == "origin_not_allowed"


def test_a_page_can_read_what_was_wrong(served: Gateway, receipt: str):
    for body, status in (({"receipt": "nonsense"}, 401), ({"receipt": receipt, "value": 7}, 400), ({}, 401)):
        reply = rate(served, OURS, body)
        error_of(reply, status)
        assert reply.headers[ALLOW] == OURS
        assert "x-request-id" in reply.headers["access-control-expose-headers"]
        assert ALLOW not in rate(served, NOBODYS, body).headers


def test_our_own_page_and_what_is_no_page_are_not_asked_for_an_origin(served: Gateway, receipt: str):
    for origin in (None, served.url):
        reply = rate(served, origin, {"receipt": receipt})
        assert (reply.status_code, ALLOW in reply.headers) == (201, False)


def test_no_other_route_is_for_other_pages(served: Gateway):
    asked = {"origin": OURS, "access-control-request-method": "POST"}
    for path in ("/v1/chat/completions", "/v1/models", "/readyz"):
        assert served.http.options(path, headers=asked).status_code == 405
        assert ALLOW not in served.http.get(path, headers=served.bearer | {"origin": OURS}).headers


def test_an_origin_taken_back_counts_no_more_within_a_second(served: Gateway, receipt: str):
    page = "https://gone.example"
    served.keys.set_origins("default", [OURS, page])
    until(lambda: rate(served, page, {"receipt": receipt}).status_code == 201)
    served.keys.set_origins("default", [OURS])
    until(lambda: rate(served, page, {"receipt": receipt}).status_code == 403, 3)


async def test_origins_are_looked_up_again_after_a_second_and_not_before(tmp_path: Path):
    now = 0.0
    keys, another = KeyStore(tmp_path / "plaudit.db"), KeyStore(tmp_path / "plaudit.db")
    keys.ensure_project("p")
    origins = Origins(KnownKeys(keys, monotonic=lambda: now))
    assert not await origins.known(OURS)
    another.set_origins("p", [OURS])
    now = 0.9
    assert not await origins.known(OURS)
    now = 1.0
    assert await origins.known(OURS)
    keys.set_origins("p", [])
    assert not await origins.known(OURS), "what this process writes counts at once"
    keys.close()
    another.close()


def test_a_failure_that_nobody_foresaw_can_be_read_too(tmp_path: Path):
    keys = KeyStore(tmp_path / "plaudit.db")
    keys.create_project("p", [OURS])
    app = FastAPI()

    @app.post("/v1/feedback")
    async def fails(request: Request) -> None:
        raise ZeroDivisionError

    install_error_handlers(app)
    app.add_middleware(Cors, origins=Origins(KnownKeys(keys)), path="/v1/feedback")
    with serving_app(app) as url:
        reply = httpx.post(url + "/v1/feedback", headers={"origin": OURS}, json={}, timeout=10)
    assert (reply.status_code, reply.headers[ALLOW]) == (500, OURS)
    assert reply.json()["error"]["code"] == "internal_error"
    keys.close()


@pytest.mark.parametrize(
    ("headers", "foreign"),
    [
        ({}, None),
        ({"origin": "https://a.example", "host": "a.example"}, None),
        ({"origin": "https://a.example", "host": "b.example"}, "https://a.example"),
        ({"origin": "https://a.example:1", "host": "a.example"}, "https://a.example:1"),
        ({"origin": "null", "host": "a.example"}, "null"),
        ({"origin": "", "host": "a.example"}, ""),
        ({"origin": "null", "host": ""}, "null"),
        ({"origin": "http://[", "host": "a.example"}, "http://["),
    ],
)
def test_a_page_is_our_own_where_its_address_is_the_one_it_calls(headers: dict[str, str], foreign: str | None):
    assert foreign_origin(Headers(headers)) == foreign
