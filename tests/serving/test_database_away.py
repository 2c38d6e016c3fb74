"""A gateway whose PostgreSQL goes away: who is known goes on, who is not is told to come back, nobody sees a 500."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest
from chat_upstream import ChatUpstream
from fastapi import FastAPI
from fastapi.testclient import TestClient
from gateway_parts import Gateway, error_of, gateway, question, serving_app, until
from postgres import PostgresServer
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ops.database import DatabaseUnavailable
from ops.open_log import open_settings_log
from ops.settings import load_settings
from serving.app import create_app
from serving.errors import install_error_handlers
from serving.keys import KeyStore
from serving.request_id import RequestId

CHAT = "/v1/chat/completions"


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def refused(reply: httpx.Response) -> None:
    assert error_of(reply, 503)["code"] == "database_unavailable"
    assert int(reply.headers["retry-after"]) >= 1


@pytest.mark.parametrize("how", ["gone", "hanging"])
def test_known_keys_go_on_and_unknown_ones_are_told_to_come_back(
    how: str, postgres: PostgresServer, upstream: ChatUpstream, tmp_path: Path
):
    with gateway(tmp_path, upstream, database_url=postgres.create()) as served:
        unknown, _ = served.keys.create("default", "app")
        served.keys.set_origins("default", ["https://a.example"])
        page = {"origin": "https://a.example", "access-control-request-method": "POST"}
        receipt = served.chat()["plaudit"]["receipt"]
        vote = {"type": "rating", "value": 1, "receipt": receipt}
        postgres.stop() if how == "gone" else postgres.freeze()
        try:
            until(lambda: "warnings" in served.http.get("/readyz").json(), 15)
            began = time.monotonic()
            for _ in range(20):
                assert served.chat()["choices"]
            assert time.monotonic() - began < 5, "nobody who is known waits for the database"
            readiness = served.http.get("/readyz")
            assert (readiness.status_code, readiness.json()["reasons"]) == (200, [])
            refused(served.http.post(CHAT, headers=bearer(unknown), json=question()))
            refused(served.http.get("/v1/models", headers=bearer(unknown)))
            assert served.http.post(CHAT, json=question()).status_code == 401
            refused(served.http.options("/v1/feedback", headers=page))
            refused(served.http.post("/v1/feedback", headers=page, json=vote))
            assert served.feedback(**vote).status_code == 201, "a receipt needs no database"
            assert "plaudit_database_up 0.0" in served.http.get("/metrics").text
        finally:
            postgres.start() if how == "gone" else postgres.thaw()
        until(lambda: served.http.post(CHAT, headers=bearer(unknown), json=question()).status_code == 200, 15)
        assert served.http.get("/readyz").json() == {"ready": True, "reasons": []}
        assert served.http.options("/v1/feedback", headers=page).status_code == 204
        assert "plaudit_database_up 1.0" in served.http.get("/metrics").text
    assert not (tmp_path / "plaudit.db").exists()


def test_who_is_known_can_write_what_they_think_and_others_are_told_why_not(
    postgres: PostgresServer, upstream: ChatUpstream, tmp_path: Path
):
    settings = load_settings(
        data_dir=tmp_path, engine_urls=(upstream.url,), secret="a secret for tests, long enough", database_url=postgres.create()
    )
    log = open_settings_log(settings)
    with serving_app(create_app(settings, log=log), settings.limits) as url:
        served = Gateway(settings, log, url, [])
        until(lambda: served.http.get("/readyz").status_code == 200, 20)
        first = served.chat(user="alice")
        liked = {"type": "rating", "value": 1, "comment": "well said", "receipt": first["plaudit"]["receipt"]}
        assert served.feedback(**liked).status_code == 201
        by_bob = {key: value for key, value in liked.items() if key != "receipt"} | {"completion_id": first["id"], "user": "bob"}
        postgres.stop()
        try:
            until(lambda: "warnings" in served.http.get("/readyz").json(), 15)
            (_, unsealed) = served.http.get("/readyz").json()["warnings"]
            assert unsealed.startswith("answers to people not seen lately cannot be kept until the database is back")
            third = served.chat(user="carol")  # has no key yet: what she was told waits, and nothing else does
            second = served.chat(user="alice")
            of_carol = {"type": "rating", "value": 1, "receipt": third["plaudit"]["receipt"]}
            began = time.monotonic()
            for body in (of_carol, [of_carol]):
                reply = served.http.post("/v1/feedback", json=body)
                refused(reply)
                assert "This answer is not kept yet" in reply.json()["error"]["message"]
            of_alice = of_carol | {"type": "score", "metric": "csat", "receipt": second["plaudit"]["receipt"]}
            outcomes = served.http.post("/v1/feedback", json=[of_carol, of_alice]).json()["data"]
            assert [outcome["status"] for outcome in outcomes] == [503, 201]
            assert time.monotonic() - began < 3, "nobody waits for an answer that cannot be kept now"
            corrected = {"type": "correction", "text": "better", "receipt": second["plaudit"]["receipt"]}
            assert served.feedback(**corrected).status_code == 201
            began = time.monotonic()
            reply = served.http.post("/v1/feedback", headers=served.bearer, json=by_bob)
            refused(reply)
            assert "the database with this user's key does not answer" in reply.json()["error"]["message"]
            assert time.monotonic() - began < 2
            assert served.http.post("/v1/feedback", headers=served.bearer, json=by_bob | {"comment": ""}).status_code == 201
        finally:
            postgres.start()
        until(lambda: served.http.post("/v1/feedback", headers=served.bearer, json=by_bob).status_code == 201, 15)
        until(lambda: len(served.events("completions")) == 3, 15)
        assert served.feedback(**of_carol).status_code == 201
        said = [getattr(fact.judgement, "text", "") or fact.judgement.comment for fact in served.facts()]
        assert said == ["well said", "", "better", "", "well said", ""]
        served.close()
    log.close()


def test_a_gateway_that_starts_without_its_database_says_so_and_is_ready_once_that_is_there(
    postgres: PostgresServer, upstream: ChatUpstream, tmp_path: Path
):
    url = postgres.create()
    keys = KeyStore(url)
    keys.ensure_project("default")
    secret, _ = keys.create("default", "app")
    keys.close()
    settings = load_settings(data_dir=tmp_path, engine_urls=(upstream.url,), secret="a secret for tests", database_url=url)
    postgres.stop()
    try:
        app = create_app(settings)
        with serving_app(app) as address, httpx.Client(base_url=address, headers=bearer(secret), timeout=15) as client:
            until(lambda: client.get("/readyz").json()["reasons"] == ["the database does not answer"], 20)
            assert client.get("/readyz").status_code == 503
            refused(client.post(CHAT, json=question()))
            postgres.start()
            until(lambda: client.get("/readyz").status_code == 200, 20)
            assert client.post(CHAT, json=question()).status_code == 200
    finally:
        postgres.start()


@pytest.mark.parametrize("error", [DatabaseUnavailable("at 10.0.0.1: refused"), PoolTimeout("all in use")])
def test_a_route_that_needs_the_database_says_503_and_where_it_is_to_nobody(error: Exception):
    app = FastAPI()

    @app.get("/admin")
    def ask() -> None:
        raise error

    install_error_handlers(app)
    app.add_middleware(RequestId)
    reply = TestClient(app).get("/admin")
    refused(reply)  # type: ignore[arg-type]
    assert "10.0.0.1" not in reply.text
