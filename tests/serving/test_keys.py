"""Keys, the page's session, and who may do what."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from chat_upstream import ChatUpstream
from gateway_parts import Gateway, error_of, question

from ops.secrets import load_secret, subkey
from ops.settings import SettingsError, load_settings
from serving.keys import Caller, KeyStore
from serving.sessions import Sessions


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> KeyStore:
    keys = KeyStore(tmp_path / "plaudit.db", clock)
    keys.ensure_project("default")
    return keys


def test_a_key_is_known_by_its_secret_which_is_nowhere_in_the_file(store: KeyStore, tmp_path: Path):
    secret, info = store.create("default", "app", "mine")
    assert store.check(secret) == Caller(("default",), "app", info.id)
    assert store.check(secret + "x") is None
    assert store.check("") is None
    store.close()
    for path in tmp_path.iterdir():
        assert secret.encode() not in path.read_bytes()
    with sqlite3.connect(tmp_path / "plaudit.db") as connection:
        assert secret not in str(connection.execute("SELECT * FROM keys").fetchall())


def test_a_key_ends_at_its_time_and_when_it_is_revoked(store: KeyStore, clock: Clock):
    short, _ = store.create("default", "app", ttl=60)
    other, info = store.create("default", "operator")
    clock.now += 59.9
    assert store.check(short) is not None
    clock.now += 0.1
    assert store.check(short) is None
    assert store.check(other) is not None
    store.revoke(info.id)
    assert store.check(other) is None
    assert [key.revoked for key in store.list("default")] == [None, clock.now]


def test_a_revocation_by_another_process_has_its_effect_within_a_second(store: KeyStore, clock: Clock, tmp_path: Path):
    secret, info = store.create("default", "app")
    assert store.check(secret) is not None
    KeyStore(tmp_path / "plaudit.db", clock).revoke(info.id)
    clock.now += 1.0
    assert store.check(secret) is None


def test_what_is_not_there_cannot_be_used(store: KeyStore):
    with pytest.raises(LookupError, match="nowhere"):
        store.create("nowhere", "app")
    with pytest.raises(ValueError, match="role"):
        store.create("default", "visitor")
    with pytest.raises(LookupError):
        store.revoke("key_none")


def test_the_first_key_is_made_once(store: KeyStore, tmp_path: Path):
    store.ensure_project("default")
    first = store.ensure_first_key()
    assert first is not None
    assert store.check(first) == Caller(("default",), "app", "key_first")
    assert store.ensure_first_key() is None
    assert KeyStore(tmp_path / "plaudit.db").ensure_first_key() is None
    assert list(store.projects()) == ["default"]


def test_a_session_lets_one_visitor_in_until_it_is_over(clock: Clock):
    sessions = Sessions(b"k" * 32, "default", seconds=100, clock=clock)
    token, other = sessions.issue(), sessions.issue()
    caller = sessions.check(token)
    assert caller is not None
    assert (caller.projects, caller.role) == (("default",), "visitor")
    assert sessions.check(other) != caller
    assert not sessions.known(token[:-2] + "xx")
    assert not sessions.known("")
    assert not Sessions(b"k" * 32, "other", clock=clock).known(token)
    assert not Sessions(b"j" * 32, "default", clock=clock).known(token)
    clock.now += 101
    assert not sessions.known(token)


def test_the_data_folders_secret_is_made_once_and_private(tmp_path: Path):
    settings = load_settings(data_dir=tmp_path / "new")
    secret = load_secret(settings)
    assert load_secret(settings) == secret
    assert (tmp_path / "new" / "secret").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["secret"]
    assert subkey(secret, "a") != subkey(secret, "b")
    assert load_secret(load_settings(data_dir=tmp_path, secret="x" * 16)) == b"x" * 16
    with pytest.raises(SettingsError, match="PLAUDIT_SECRET"):
        load_secret(load_settings(data_dir=tmp_path, secret="short"))


PRIVATE = [("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/v1/models/default"), ("POST", "/v1/feedback")]


@pytest.mark.parametrize(("method", "route"), PRIVATE)
def test_no_key_a_wrong_a_revoked_and_an_expired_key_are_refused(served: Gateway, method: str, route: str):
    revoked, info = served.keys.create("default", "app")
    served.keys.revoke(info.id)
    expired, _ = served.keys.create("default", "app", ttl=0)
    headers = [{}, *({"authorization": value} for value in ("Bearer x", "Bearer", f"Basic {served.key}", served.key))]
    headers += [{"authorization": f"Bearer {secret}"} for secret in (revoked, expired)]
    body = {"type": "rating", "value": 1, "completion_id": "x"} if "feedback" in route else question()
    for header in headers:
        reply = served.http.request(method, route, headers=header, json=body)
        error = error_of(reply, 401)
        assert error["type"] == "authentication_error"
        assert reply.headers["www-authenticate"] == "Bearer"


def test_an_annotators_key_cannot_chat_and_another_projects_cannot_use_ours(served: Gateway, upstream: ChatUpstream):
    annotator, _ = served.keys.create("default", "annotator")
    stranger, _ = served.keys.create("other", "app")
    for secret, status in ((annotator, 403), (stranger, 404)):
        reply = served.http.post("/v1/chat/completions", headers={"authorization": f"Bearer {secret}"}, json=question())
        error_of(reply, status)
    assert upstream.chats() == []


@pytest.fixture
def cookie(served: Gateway) -> dict[str, str]:
    """A browser's session, as the page gives it."""
    reply = served.http.get("/")
    assert reply.status_code == 200
    value = reply.cookies["plaudit_session"]
    served.http.cookies.clear()
    return {"cookie": f"plaudit_session={value}"}


def test_the_pages_session_chats_and_is_one_user_whoever_it_says_it_is(
    served: Gateway, upstream: ChatUpstream, cookie: dict[str, str]
):
    users = set()
    for name in ("ada", "bob"):
        headers = cookie | {"origin": served.url, "sec-fetch-site": "same-origin"}
        reply = served.http.post("/v1/chat/completions", headers=headers, json=question() | {"user": name})
        assert reply.status_code == 200
        users.add(served.completion(reply.json()["id"]).user)
    assert len(users) == 1


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}],
)
def test_other_sites_cannot_use_the_pages_session(served: Gateway, cookie: dict[str, str], headers: dict[str, str]):
    error_of(served.http.post("/v1/chat/completions", headers=cookie | headers, json=question()), 403)


def test_a_form_cannot_use_the_pages_session(served: Gateway, cookie: dict[str, str]):
    headers = cookie | {"content-type": "text/plain"}
    assert error_of(served.http.post("/v1/chat/completions", headers=headers, content=b"{}"), 400)["param"] == "content-type"
