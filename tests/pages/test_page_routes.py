"""Who gets the page, under which headers, and what is served beside it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from ops.settings import load_settings
from serving.pages.routes import router


class CountedSessions:
    """Tokens in order: s1, s2, …; all of them good."""

    seconds = 600

    def __init__(self) -> None:
        self.issued = 0

    def issue(self) -> str:
        self.issued += 1
        return f"s{self.issued}"

    def known(self, token: str) -> bool:
        return token in {f"s{n}" for n in range(1, self.issued + 1)}


def client(tmp_path, called: str = "127.0.0.1", **settings: Any) -> TestClient:
    app = FastAPI()
    app.include_router(router(load_settings(data_dir=tmp_path, **settings), CountedSessions()))
    return TestClient(app, base_url=f"http://{called}:8000")


def test_the_policy_allows_this_origin_and_nothing_inline(tmp_path):
    policy = dict(part.split(" ", 1) for part in client(tmp_path).get("/").headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def test_the_page_is_not_stored_and_its_headers_keep_types_and_addresses_to_themselves(tmp_path):
    headers = client(tmp_path).get("/").headers
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"


def test_the_page_names_the_project_as_its_model_and_only_files_of_its_own(tmp_path):
    browser = client(tmp_path, project="kitchen")
    html = browser.get("/").text
    assert '<body data-model="kitchen">' in html
    links = re.findall(r'(?:src|href)="([^"#]+)"', html)
    assert len(links) >= 6
    assert all(browser.get(link).status_code == 200 for link in links)


def test_a_session_is_given_once_in_a_cookie_for_this_site_alone(tmp_path):
    browser = client(tmp_path)
    cookie = browser.get("/").headers["set-cookie"]
    assert re.fullmatch(r"plaudit_session=s1; HttpOnly; Max-Age=600; Path=/; SameSite=strict", cookie)
    assert "set-cookie" not in browser.get("/").headers
    browser.cookies.clear()
    browser.cookies.set("plaudit_session", "forged")
    assert browser.get("/").headers["set-cookie"].startswith("plaudit_session=s2;")


def test_over_https_the_cookie_is_never_sent_in_clear(tmp_path):
    browser = client(tmp_path, page="on")
    assert "; Secure" in browser.get("https://chat.example/").headers["set-cookie"]


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("chat.js", "text/javascript; charset=utf-8"), ("chat.css", "text/css; charset=utf-8"), ("icon.svg", "image/svg+xml")],
)
def test_a_static_file_has_its_type_and_is_sent_again_only_when_it_changed(tmp_path, name, media_type):
    browser = client(tmp_path)
    first = browser.get(f"/static/{name}")
    assert (first.status_code, first.headers["content-type"], first.headers["cache-control"]) == (200, media_type, "no-cache")
    again = browser.get(f"/static/{name}", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert browser.get(f"/static/{name}", headers={"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize("name", ["nothing.js", "..%2Froutes.py", "%2e%2e/routes.py", ".", "chat.js%00"])
def test_nothing_else_can_be_had_under_static(tmp_path, name):
    assert client(tmp_path).get(f"/static/{name}").status_code == 404


@pytest.mark.parametrize(
    ("settings", "called", "status"),
    [
        ({"page": "auto", "host": "127.0.0.1"}, "127.0.0.1", 200),
        ({"page": "auto", "host": "localhost"}, "localhost", 200),
        ({"page": "auto", "host": "::1"}, "[::1]", 200),
        ({"page": "auto", "host": "0.0.0.0"}, "127.0.0.1", 404),
        ({"page": "auto", "host": "127.0.0.1"}, "rebound.example", 404),
        ({"page": "off", "host": "127.0.0.1"}, "127.0.0.1", 404),
        ({"page": "on", "host": "0.0.0.0"}, "chat.example", 200),
    ],
)
def test_the_page_without_a_key_is_for_loopback_unless_turned_on(tmp_path, settings, called, status):
    browser = client(tmp_path, called, **settings)
    answer = browser.get("/")
    assert answer.status_code == browser.get("/static/chat.js").status_code == status
    assert ("set-cookie" in answer.headers) == (status == 200)


def test_a_closed_page_says_how_to_open_it(tmp_path):
    answer = client(tmp_path, page="off", port=8123).get("/")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "PLAUDIT_PAGE=on" in answer.text
    assert "http://127.0.0.1:8123/" in answer.text
