"""Who may use what: every route of both ports, for every kind of caller, against one table."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from chat_upstream import ChatUpstream
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from gateway_parts import error_of, question, serving_app, until
from lora_files import publish, write_lora
from starlette.routing import Mount, Route

from feedback.sqlite_log import SqliteLog
from ops.registry import Registry
from ops.settings import load_settings
from serving.admin import ADMIN_PORT, create_admin_app
from serving.app import create_app
from serving.auth import Authenticator
from serving.gate import PUBLIC_PORT, Gate
from serving.keys import ALL_PROJECTS, KeyStore
from serving.known_keys import KnownKeys
from serving.labeling.plan import Listed, StreamPlan
from serving.labeling.streams import Streams

NOBODY = ("no key", "malformed", "another scheme", "no scheme", "unknown", "expired", "revoked")
"""Callers that are nobody: 401 wherever a key is needed."""

CALLERS = ("app", "annotator", "operator", "all operator", "other app", "other operator")
"""Keys of the project 'default', of all projects, and of the project 'other'."""


@dataclass(frozen=True)
class Row:
    """The status for each of `CALLERS`; ``anyone``: for everybody, key or not."""

    expected: tuple[int, ...] = ()
    anyone: int = 0
    path: str = ""
    """With its parameters filled in; names in braces are those of `World`."""
    body: Any = None


PUBLIC = {
    ("POST", "/v1/chat/completions"): Row((200, 403, 200, 200, 404, 404), body=question()),
    ("POST", "/v1/feedback"): Row(
        (201, 201, 201, 201, 404, 404), body={"type": "rating", "value": 1, "completion_id": "{completion}"}
    ),
    ("GET", "/v1/label/streams"): Row((403, 200, 403, 403, 403, 403)),
    ("GET", "/v1/label/next"): Row((403, 204, 403, 403, 403, 403), path="/v1/label/next?stream={stream}"),
    ("POST", "/v1/label/{task}"): Row(
        (403, 404, 403, 403, 403, 403), path="/v1/label/task_1", body={"type": "rating", "value": 1}
    ),
    ("GET", "/v1/models"): Row((200, 200, 200, 200, 200, 200)),
    ("GET", "/v1/models/{model:path}"): Row((200, 200, 200, 200, 404, 404), path="/v1/models/default"),
    ("GET", "/healthz"): Row(anyone=200),
    ("GET", "/readyz"): Row(anyone=200),
    ("GET", "/metrics"): Row(anyone=200),
    ("GET", "/"): Row(anyone=200),
    ("GET", "/static/{name}"): Row(anyone=200, path="/static/chat.js"),
    ("GET", "/docs"): Row(anyone=200),
    ("GET", "/docs/{name}"): Row(anyone=200, path="/docs/start.js"),
    ("GET", "/openapi.json"): Row(anyone=200),
}

ADMIN = {
    ("GET", "/healthz"): Row(anyone=200),
    ("GET", "/metrics"): Row((403, 403, 403, 200, 403, 403)),
    ("GET", "/openapi.json"): Row((403, 403, 200, 200, 403, 200)),
    ("GET", "/admin/v1/projects"): Row((403, 403, 200, 200, 403, 200)),
    ("POST", "/admin/v1/projects"): Row((403, 403, 403, 201, 403, 403), body={"name": "fresh"}),
    ("PUT", "/admin/v1/projects/{project}/origins"): Row(
        (403, 403, 200, 200, 403, 404), path="/admin/v1/projects/default/origins", body={"origins": []}
    ),
    ("GET", "/admin/v1/projects/{project}/rollout"): Row(
        (403, 403, 200, 200, 403, 404), path="/admin/v1/projects/default/rollout"
    ),
    ("GET", "/admin/v1/projects/{project}/adapters"): Row(
        (403, 403, 200, 200, 403, 404), path="/admin/v1/projects/default/adapters"
    ),
    ("GET", "/admin/v1/adapters/{adapter}"): Row((403, 403, 200, 200, 403, 404), path="/admin/v1/adapters/{adapter}"),
    ("GET", "/admin/v1/projects/{project}/labels"): Row((403, 403, 200, 200, 403, 404), path="/admin/v1/projects/default/labels"),
    ("POST", "/admin/v1/projects/{project}/labels"): Row(
        (403, 403, 201, 409, 403, 404),
        path="/admin/v1/projects/default/labels",
        body={"name": "fresh", "kind": "rating", "source": {"rule": "listed"}},
    ),
    ("GET", "/admin/v1/labels/{stream}"): Row((403, 403, 200, 200, 403, 404), path="/admin/v1/labels/{stream}"),
    ("GET", "/admin/v1/labels/{stream}/raters"): Row((403, 403, 200, 200, 403, 404), path="/admin/v1/labels/{stream}/raters"),
    ("POST", "/admin/v1/labels/{stream}/items"): Row(
        (403, 403, 201, 201, 403, 404),
        path="/admin/v1/labels/{stream}/items",
        body={"items": [{"completion_ids": ["{completion}"]}]},
    ),
    ("POST", "/admin/v1/labels/{stream}/draw"): Row((403, 403, 200, 200, 403, 404), path="/admin/v1/labels/{stream}/draw"),
    ("POST", "/admin/v1/labels/{stream}/close"): Row((403, 403, 200, 200, 403, 404), path="/admin/v1/labels/{stream}/close"),
    ("GET", "/admin/v1/keys"): Row((403, 403, 200, 200, 403, 200)),
    ("POST", "/admin/v1/keys"): Row((403, 403, 201, 201, 403, 400), body={"projects": ["default"]}),
    ("POST", "/admin/v1/keys/{key_id}/revoke"): Row((403, 403, 200, 200, 403, 404), path="/admin/v1/keys/{victim}/revoke"),
}

TABLES = {"public": PUBLIC, "admin": ADMIN}
CASES = [(port, *which) for port, table in TABLES.items() for which in table]


class World:
    """Both ports of one gateway, and a key of every kind."""

    def __init__(self, folder: Path, upstream: ChatUpstream) -> None:
        settings = load_settings(data_dir=folder, engine_urls=(upstream.url,), page="on")
        self.log = SqliteLog(settings.log_path)
        self.keys = KeyStore(settings)
        for project in ("default", "other"):
            self.keys.ensure_project(project)
        registry = Registry(settings.adapters_dir)
        plan = StreamPlan(kind="rating", source=Listed(rule="listed"))
        self.stream = Streams(self.keys).create("default", "work", plan).id
        self.adapter = publish(registry, write_lora(folder / "staging", seed=1), project="default", now=1.0).id
        self.apps = {
            "public": create_app(settings, log=self.log),
            "admin": create_admin_app(settings, self.keys, registry, self.log, NothingLive()),
        }
        self.secrets = {
            "app": self._key("default", "app"),
            "annotator": self._key("default", "annotator"),
            "operator": self._key("default", "operator"),
            "all operator": self._key(ALL_PROJECTS, "operator"),
            "other app": self._key("other", "app"),
            "other operator": self._key("other", "operator"),
            "expired": self._key("default", "operator", ttl=0),
            "revoked": self._key("default", "operator"),
            "unknown": "sk-plaudit-" + "x" * 43,
        }
        self.keys.revoke(self.keys.list("default")[-1].id)
        self.http = httpx.Client(timeout=15)
        self.urls: dict[str, str] = {}
        self.completion = ""

    def _key(self, project: str, role: Any, ttl: float | None = None) -> str:
        return self.keys.create(project, role, ttl=ttl)[0]

    @property
    def victim(self) -> str:
        return self.keys.create("default", "app", "to be revoked")[1].id

    def headers(self, caller: str) -> dict[str, str]:
        key = self.secrets["operator"]
        match caller:
            case "no key":
                return {}
            case "malformed":
                return {"authorization": "Bearer"}
            case "another scheme":
                return {"authorization": f"Basic {key}"}
            case "no scheme":
                return {"authorization": key}
            case _:
                return {"authorization": f"Bearer {self.secrets[caller]}"}

    def ask(self, port: str, method: str, path: str, caller: str, body: Any = None) -> httpx.Response:
        path, sent = (self._filled_in(text) for text in (path, json.dumps(body)))
        headers = self.headers(caller) | {"content-type": "application/json"}
        return httpx.request(
            method, self.urls[port] + path, headers=headers, content=sent if body is not None else b"", timeout=15
        )

    def _filled_in(self, text: str) -> str:
        """``{name}`` as the attribute of that name."""
        for name in ("adapter", "completion", "stream", "victim"):
            text = text.replace(f"{{{name}}}", getattr(self, name)) if f"{{{name}}}" in text else text
        return text


class NothingLive:
    def is_live(self, adapter: str) -> bool:
        return False


@pytest.fixture(scope="module")
def world(_upstream: ChatUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(Path(tmp_path_factory.mktemp("data")), _upstream)
    with serving_app(made.apps["public"]) as public, serving_app(made.apps["admin"]) as admin:
        made.urls = {"public": public, "admin": admin}
        until(lambda: httpx.get(public + "/readyz").status_code == 200, 20)
        answer = made.ask("public", "POST", "/v1/chat/completions", "app", question())
        made.completion = answer.json()["plaudit"]["completion_id"]
        yield made
    made.http.close()
    made.keys.close()
    made.log.close()


def routes_of(app: FastAPI) -> set[tuple[str, str]]:
    """Method and path of every route, HEAD beside a GET left out."""
    found: set[tuple[str, str]] = set()
    for route in app.routes:
        assert isinstance(route, Route), f"{route}: say in this test what its methods are"
        found |= {(method, route.path) for method in (route.methods or ()) if method != "HEAD" or "GET" not in route.methods}
    return found


@pytest.mark.parametrize("port", TABLES)
def test_every_route_is_in_the_table_and_says_itself_who_may_use_it(world: World, port: str):
    routes = routes_of(world.apps[port])
    assert routes == TABLES[port].keys(), "a new route: say here for everybody what it answers"
    assert routes == {"public": PUBLIC_PORT, "admin": ADMIN_PORT}[port].keys()


@pytest.mark.parametrize(("port", "method", "path"), CASES)
def test_a_route_answers_each_kind_of_caller_as_the_table_says(world: World, port: str, method: str, path: str):
    row = TABLES[port][method, path]
    expected = dict.fromkeys(NOBODY, row.anyone or 401)
    expected |= dict.fromkeys(CALLERS, row.anyone) if row.anyone else dict(zip(CALLERS, row.expected, strict=True))
    found = {}
    for caller in expected:
        reply = world.ask(port, method, row.path or path, caller, row.body)
        found[caller] = reply.status_code
        if reply.status_code >= 400:
            error = error_of(reply, reply.status_code)
            assert error["type"] == {401: "authentication_error", 403: "permission_error"}.get(
                reply.status_code, "invalid_request_error"
            )
        if reply.status_code == 401:
            assert reply.headers["www-authenticate"] == "Bearer"
    assert found == expected


@pytest.mark.parametrize(("port", "method", "path"), CASES)
def test_no_other_method_finds_a_way_in(world: World, port: str, method: str, path: str):
    allowed = {name for name, where in TABLES[port] if where == path} | {"HEAD"}
    for other in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS"} - allowed:
        reply = world.ask(port, other, (TABLES[port][method, path].path or path), "no key")
        assert reply.status_code in (405, 401), (other, path)


def test_the_admin_ports_routes_are_not_on_the_public_one(world: World):
    for method, path in ADMIN.keys() - PUBLIC.keys():
        reply = world.ask("public", method, ADMIN[method, path].path or path, "all operator", {})
        assert error_of(reply, 404)["code"] == "unknown_url"


def test_a_receipt_does_not_make_up_for_a_bad_key(world: World):
    receipt = world.ask("public", "POST", "/v1/chat/completions", "app", question()).json()["plaudit"]["receipt"]
    body = {"type": "rating", "value": 1, "receipt": receipt}
    assert world.ask("public", "POST", "/v1/feedback", "no key", body).status_code == 201
    for caller in NOBODY[1:]:
        assert world.ask("public", "POST", "/v1/feedback", caller, body).status_code == 401
    assert error_of(world.ask("public", "POST", "/v1/feedback", "other app", body), 403)["param"] == "receipt"


def test_an_adapters_name_is_no_model_and_is_told_to_no_application(world: World):
    for caller in ("app", "operator"):
        reply = world.ask("public", "POST", "/v1/chat/completions", caller, question() | {"model": world.adapter})
        assert error_of(reply, 404)["code"] == "model_not_found"
    for path in ("/v1/models", "/metrics", "/readyz", "/v1/models/default"):
        assert world.adapter not in world.ask("public", "GET", path, "app").text


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


def test_a_route_that_says_of_nobody_that_they_may_use_it_is_refused(world: World):
    app = FastAPI(openapi_url=None, routes=[Route("/raw", hello), Mount("/mounted", routes=[Route("/inside", hello)])])
    app.add_api_route("/declared/{name}", hello, response_class=PlainTextResponse)
    app.add_api_route("/api/{name}", hello, methods=["GET", "POST"])
    rules = {("GET", "/declared/{name}"): "anyone", ("GET", "/api/{name}"): ("app",)}
    app.add_middleware(Gate, rules=rules, routes=app.routes, authenticator=Authenticator(KnownKeys(world.keys)))
    key = world.headers("app")
    with serving_app(app) as url, httpx.Client(base_url=url, timeout=10) as client:
        for path in ("/raw", "/mounted/inside"):
            for headers in ({}, key, world.headers("all operator")):
                reply = client.get(path, headers=headers)
                assert (reply.status_code, reply.json()["error"]["code"]) == (403, "undeclared_route")
        assert client.get("/declared/x").text == "hello"
        assert client.get("/api/x").status_code == 401
        assert client.post("/api/x", headers=key).json()["error"]["code"] == "undeclared_route"
        assert client.get("/nowhere").status_code == 404


@pytest.mark.parametrize("address", ["http://evil.example/v1/models", "//v1/models", "/v1/./models", "/v1/models/../models"])
def test_odd_ways_to_write_an_address_open_nothing(world: World, address: str):
    host, port = world.urls["public"].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 5) as client:
        client.sendall(f"GET {address} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        assert client.recv(4096).split(b" ")[1] in (b"400", b"401", b"403", b"404")
