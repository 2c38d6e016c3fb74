"""The admin port: what operators make, see and take back."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_parts import error_of, serving_app
from lora_files import publish, write_lora

from feedback.events import AdapterRefused, Event, RolloutChanged
from feedback.sqlite_log import SqliteLog
from ops.audit import AuditLog
from ops.controller import status
from ops.registry import Registry
from ops.settings import Settings, load_settings
from serving.admin import create_admin_app
from serving.keys import ALL_PROJECTS, KeyLimits, KeyStore


class Admin:
    """A served admin port, its parts, and a client with a key of all projects."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = KeyStore(settings)
        self.keys.ensure_project("default")
        self.registry = Registry(settings.adapters_dir)
        self.log = SqliteLog(settings.log_path)
        self.live: set[str] = set()
        self.app = create_admin_app(settings, self.keys, self.registry, self.log, self)
        self.key, _ = self.keys.create(ALL_PROJECTS, "operator", "boss")
        self.url = ""

    def is_live(self, adapter: str) -> bool:
        return adapter in self.live

    def ask(self, method: str, path: str, body: Any = None, key: str | None = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {key or self.key}"}
        return self.http.request(method, self.url + path, headers=headers, json=body)

    def told(self, method: str, path: str, body: Any = None, key: str | None = None) -> Any:
        reply = self.ask(method, path, body, key)
        assert reply.status_code in (200, 201), reply.text
        return reply.json()

    def publish(self, seed: int, **more: Any) -> str:
        staging = write_lora(self.settings.data_dir / f"staging{seed}", seed=seed)
        return publish(self.registry, staging, now=float(seed), **more).id

    def say(self, data: Any, project: str = "default") -> None:
        self.log.append([Event(id=f"e{time.monotonic_ns()}", time=time.time(), project=project, key=project, data=data)])


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[Admin]:
    made = Admin(load_settings(data_dir=tmp_path))
    with serving_app(made.app) as url, httpx.Client(timeout=15) as made.http:
        made.url = url
        yield made
    made.keys.close()
    made.log.close()


def test_a_project_is_made_with_its_origins_listed_and_its_origins_are_replaced(admin: Admin):
    made = admin.told("POST", "/admin/v1/projects", {"name": "shop", "origins": ["https://shop.example"]})
    assert (made["name"], made["origins"], made["keys"]) == ("shop", ["https://shop.example"], 1)
    assert time.time() - made["created"] < 60
    listed = admin.told("GET", "/admin/v1/projects")
    assert (listed["object"], [p["name"] for p in listed["data"]]) == ("list", ["default", "shop"])
    after = admin.told("PUT", "/admin/v1/projects/shop/origins", {"origins": ["http://localhost:3000"]})
    assert after["origins"] == ["http://localhost:3000"] == list(admin.keys.origins()["shop"])
    error = error_of(admin.ask("POST", "/admin/v1/projects", {"name": "shop", "origins": []}), 409)
    assert (error["param"], error["code"]) == ("name", "project_exists")
    assert admin.keys.origins()["shop"] == ("http://localhost:3000",)


WRONG: list[tuple[str, str, Any, str, str]] = [
    ("POST", "/admin/v1/projects", {"name": "Shop"}, "name", "invalid_value"),
    ("POST", "/admin/v1/projects", {"name": "a" * 42}, "name", "invalid_value"),
    ("POST", "/admin/v1/projects", {"name": "shop\n"}, "name", "invalid_value"),
    ("POST", "/admin/v1/projects", {}, "name", "missing_required_parameter"),
    ("POST", "/admin/v1/projects", {"name": "shop", "origin": "x"}, "origin", "unknown_parameter"),
    ("POST", "/admin/v1/projects", {"name": "shop", "origins": ["https://a.example/"]}, "origins", "invalid_value"),
    ("PUT", "/admin/v1/projects/default/origins", {"origins": ["*"]}, "origins", "invalid_value"),
    ("PUT", "/admin/v1/projects/default/origins", {"origins": "https://a.example"}, "origins", "invalid_value"),
    ("POST", "/admin/v1/keys", {"projects": []}, "projects", "invalid_value"),
    ("POST", "/admin/v1/keys", {"projects": ["nowhere"]}, "projects", "invalid_value"),
    ("POST", "/admin/v1/keys", {"projects": ["default"], "role": "visitor"}, "role", "invalid_value"),
    ("POST", "/admin/v1/keys", {"all_projects": True}, "role", "invalid_value"),
    ("POST", "/admin/v1/keys", {"all_projects": True, "projects": ["default"], "role": "operator"}, "role", "invalid_value"),
    ("POST", "/admin/v1/keys", {"projects": ["default"], "days": 0}, "days", "invalid_value"),
    ("POST", "/admin/v1/keys", {"projects": ["default"], "limits": {"concurrent": 0}}, "limits.concurrent", "invalid_value"),
]


@pytest.mark.parametrize(("method", "path", "body", "param", "code"), WRONG)
def test_what_is_wrong_is_told_by_field_and_nothing_is_made(
    admin: Admin, method: str, path: str, body: Any, param: str, code: str
):
    error = error_of(admin.ask(method, path, body), 400)
    assert (error["param"], error["code"]) == (param, code)
    assert list(admin.keys.projects()) == ["default"]
    assert len(admin.keys.all()) == 1


def test_a_body_that_is_no_json_and_one_too_large_are_refused(admin: Admin):
    headers = {"authorization": f"Bearer {admin.key}", "content-type": "application/json"}
    for content in (b"{", b"", b"[" * 5000, b'"\xff"'):
        error_of(admin.http.post(admin.url + "/admin/v1/projects", headers=headers, content=content), 400)
    large = b'"' + b"x" * admin.settings.limits.max_body_bytes + b'"'
    error_of(admin.http.post(admin.url + "/admin/v1/projects", headers=headers, content=large), 413)


def test_a_keys_secret_is_shown_once_and_the_key_can_be_revoked(admin: Admin, tmp_path: Path):
    admin.keys.create_project("shop")
    body = {"projects": ["default", "shop"], "name": "ann's", "days": 1, "limits": {"requests_per_min": 60}}
    made = admin.told("POST", "/admin/v1/keys", body)
    secret = made.pop("key")
    caller = admin.keys.check(secret)
    assert caller is not None
    assert (caller.projects, caller.role, caller.limits) == (("default", "shop"), "app", KeyLimits(requests_per_min=60))
    assert made["expires"] - made["created"] == pytest.approx(86_400)
    listing = admin.ask("GET", "/admin/v1/keys?project=shop")
    assert secret not in listing.text
    assert listing.json()["data"][-1] == made
    assert [key["name"] for key in listing.json()["data"]] == ["boss", "ann's"]
    revoked = admin.told("POST", f"/admin/v1/keys/{made['id']}/revoke")
    assert revoked["revoked"] is not None
    assert admin.keys.check(secret) is None
    assert admin.told("POST", f"/admin/v1/keys/{made['id']}/revoke") == revoked
    error_of(admin.ask("POST", "/admin/v1/keys/key_none/revoke"), 404)
    with sqlite3.connect(tmp_path / "plaudit.db") as connection:
        assert secret not in "\n".join(connection.iterdump())


def test_an_operator_of_some_projects_sees_and_takes_back_only_what_is_theirs(admin: Admin):
    for project in ("shop", "bank"):
        admin.keys.create_project(project)
    mine, _ = admin.keys.create("shop", "operator")
    admin.keys.create("shop", "app", "ours")
    _, both = admin.keys.create("shop", "app", "shared", also=("bank",))
    _, foreign = admin.keys.create("bank", "app", "foreign")
    assert [p["name"] for p in admin.told("GET", "/admin/v1/projects", key=mine)["data"]] == ["shop"]
    assert [k["name"] for k in admin.told("GET", "/admin/v1/keys", key=mine)["data"]] == ["", "ours"]
    for key in (both, foreign):
        error_of(admin.ask("POST", f"/admin/v1/keys/{key.id}/revoke", key=mine), 404)
    assert error_of(admin.ask("POST", "/admin/v1/keys", {"projects": ["shop", "bank"]}, key=mine), 400)["param"] == "projects"
    everywhere = {"all_projects": True, "role": "operator"}
    error_of(admin.ask("POST", "/admin/v1/keys", everywhere, key=mine), 403)
    assert admin.told("POST", "/admin/v1/keys", everywhere)["all_projects"] is True
    error_of(admin.ask("GET", "/admin/v1/keys?project=bank", key=mine), 404)


def test_adapters_are_listed_with_parent_state_and_gates_and_shown_whole(admin: Admin):
    first = admin.publish(1)
    second = admin.publish(2, parent=first)
    failed = admin.publish(3, parent=first, passed=False)
    unsafe = admin.publish(4, parent=first)
    admin.say(RolloutChanged(rollout_id="ro-1", state="PROMOTED", champion=first, challenger=None))
    admin.say(RolloutChanged(rollout_id="ro-2", state="RAMP", champion=first, challenger=second, coverage=0.1, salt="s"))
    admin.say(AdapterRefused(adapter=unsafe, gateway="gw", reason="NaN"))
    admin.live = {first, second}
    rows = admin.told("GET", "/admin/v1/projects/default/adapters")["data"]
    assert [(row["id"], row["parent"], row["state"], row["live"]) for row in rows] == [
        (first, "base", "CHAMPION", True),
        (second, first, "RAMP", True),
        (failed, first, "REJECTED", False),
        (unsafe, first, "REFUSED", False),
    ]
    assert rows[2]["gates"] == [{"name": "win_rate", "passed": False, "value": 0.4, "threshold": 0.5, "detail": ""}]
    shown = admin.told("GET", f"/admin/v1/adapters/{second}")
    assert shown == json.loads(admin.registry.get(second).model_dump_json()) | {"state": "RAMP", "live": True}
    for name in ("default-v9-00000000", "..%2f..%2fsecret", "base"):
        error = error_of(admin.ask("GET", f"/admin/v1/adapters/{name}"), 404)
        assert str(admin.settings.data_dir) not in error["message"]


def test_a_rollout_is_told_as_the_command_line_tells_it_and_follows_the_log(admin: Admin):
    admin.keys.create_project("shop")
    path = "/admin/v1/projects/shop/rollout"
    assert admin.told("GET", path)["champion"] == "base"
    admin.say(RolloutChanged(rollout_id="ro-x", state="PROMOTED", champion="shop-v1-00000000", challenger=None), "shop")
    assert admin.told("GET", path) == status(admin.settings.model_copy(update={"project": "shop"}))
    assert admin.told("GET", path)["champion"] == "shop-v1-00000000"
    assert admin.told("GET", "/admin/v1/projects/default/rollout")["champion"] == "base"


def test_metrics_name_adapters_here_and_the_schema_says_what_is_served(admin: Admin):
    from ops import metrics

    metrics.ADAPTER_INFO.labels("default", "champion", "default-v1-00000000").set(1)
    try:
        page = admin.ask("GET", "/metrics")
        assert page.headers["content-type"].startswith("text/plain")
        assert 'adapter="default-v1-00000000"' in page.text
        assert "plaudit_requests_total" in page.text
    finally:
        metrics.ADAPTER_INFO.clear()
    schema = admin.told("GET", "/openapi.json")
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            assert "422" not in operation["responses"], "what is wrong with a request is a 400 here"
            assert path == "/healthz" or "4XX" in operation["responses"]
            assert path == "/healthz" or operation["security"]
    error = error_of(admin.ask("GET", "/admin/v1/nothing"), 404)
    assert "/admin/v1/projects" in error["message"]


def test_what_operators_do_is_in_the_audit_log_with_their_keys_id(admin: Admin):
    admin.told("POST", "/admin/v1/projects", {"name": "audited"})
    admin.told("PUT", "/admin/v1/projects/audited/origins", {"origins": ["https://shop.example"]})
    made = admin.told("POST", "/admin/v1/keys", {"projects": ["audited"]})
    admin.told("POST", f"/admin/v1/keys/{made['id']}/revoke")
    log = AuditLog.of(admin.settings)
    done = log.tail(4)
    log.verify()
    log.close()
    assert [(entry.what, entry.target) for entry in done] == [
        ("project.create", "audited"),
        ("project.origins", "audited"),
        ("key.create", made["id"]),
        ("key.revoke", made["id"]),
    ]
    assert {entry.who for entry in done} == {admin.keys.check(admin.key).key_id}
    assert made["key"] not in (admin.settings.data_dir / "audit.jsonl").read_text()
