"""Keys, the page's session, and who may do what."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from chat_upstream import ChatUpstream
from gateway_parts import Gateway, error_of, question

from ops.secrets import load_secret, subkey
from ops.settings import SettingsError, load_settings
from serving.keys import ALL_PROJECTS, Caller, KeyInfo, KeyLimits, KeyStore
from serving.known_keys import KnownKeys
from serving.sessions import Sessions


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind, with nothing in it."""
    return str(tmp_path / "plaudit.db") if request.param == "sqlite" else request.getfixturevalue("postgres").create()


@pytest.fixture
def store(where: str, clock: Clock) -> Iterator[KeyStore]:
    keys = KeyStore(where, clock)
    keys.ensure_project("default")
    yield keys
    keys.close()


@pytest.fixture
def another(where: str, clock: Clock) -> Iterator[KeyStore]:
    """The same keys, as another process has them."""
    keys = KeyStore(where, clock)
    yield keys
    keys.close()


def test_a_key_is_known_by_its_secret_which_is_nowhere_in_the_file(tmp_path: Path):
    store = KeyStore(tmp_path / "plaudit.db")
    store.ensure_project("default")
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


async def test_a_revocation_by_another_process_has_its_effect_within_a_second(store: KeyStore, another: KeyStore, clock: Clock):
    known = KnownKeys(store, clock, clock)
    secret, info = store.create("default", "app")
    assert await known.check(secret) is not None
    another.revoke(info.id)
    clock.now += 1.0
    assert await known.check(secret) is None
    known.close()


async def test_what_is_known_of_a_key_ends_at_the_keys_time_and_with_a_revocation_here(store: KeyStore, clock: Clock):
    known = KnownKeys(store, clock, lambda: 0.0)  # all that is remembered stays fresh
    short, _ = store.create("default", "app", ttl=60)
    other, info = store.create("default", "app")
    assert await known.check(short) is not None
    clock.now += 60
    assert await known.check(short) is None
    assert await known.check(other) is not None
    store.revoke(info.id)
    assert await known.check(other) is None
    known.close()


def test_what_is_not_there_cannot_be_used(store: KeyStore):
    with pytest.raises(LookupError, match="nowhere"):
        store.create("nowhere", "app")
    with pytest.raises(ValueError, match="role"):
        store.create("default", "visitor")
    with pytest.raises(LookupError):
        store.revoke("key_none")


def test_the_first_key_is_made_once(store: KeyStore, another: KeyStore):
    store.ensure_project("default")
    first = store.ensure_first_key()
    assert first is not None
    assert store.check(first) == Caller(("default",), "app", "key_first")
    assert store.ensure_first_key() is None
    assert another.ensure_first_key() is None
    assert list(store.projects()) == ["default"]


def test_a_key_of_several_projects_has_its_limits_and_no_others(store: KeyStore):
    store.create_project("shop")
    limits = KeyLimits(requests_per_min=60, concurrent=2)
    secret, info = store.create("shop", "app", also=("default", "shop"), limits=limits)
    caller = store.check(secret)
    assert caller == Caller(("shop", "default"), "app", info.id, limits=limits)
    assert (caller.may("shop"), caller.may("default"), caller.may("bank"), caller.may("*")) == (True, True, False, False)
    assert store.list("default") == store.list("shop") == [info] == [store.find(info.id)]
    with pytest.raises(LookupError, match="bank"):
        store.create("default", "app", also=("bank",))
    assert len(store.all()) == 1, "nothing is left of a key that could not be made"


async def test_an_operators_key_for_all_projects_opens_those_made_later_within_a_second(
    store: KeyStore, another: KeyStore, clock: Clock
):
    known = KnownKeys(store, clock, clock)
    secret, info = store.create(ALL_PROJECTS, "operator")
    caller = await known.check(secret)
    assert caller is not None
    assert (caller.projects, caller.everywhere, caller.may("nowhere")) == (("default",), True, False)
    store.create_project("shop")
    assert (await known.check(secret)).may("shop"), "what this process makes counts at once"
    another.create_project("bank")
    clock.now += 1.0
    assert set((await known.check(secret)).projects) == {"default", "shop", "bank"}
    assert store.list("bank") == [info]
    for role, also in (("app", ()), ("annotator", ()), ("operator", ("shop",))):
        with pytest.raises(ValueError, match="all projects"):
            store.create(ALL_PROJECTS, role, also=also)
    known.close()


OLD_SCHEMA = """
CREATE TABLE projects (id VARCHAR NOT NULL, created FLOAT NOT NULL, PRIMARY KEY (id));
CREATE TABLE keys (id VARCHAR NOT NULL, digest VARCHAR NOT NULL, project VARCHAR NOT NULL, role VARCHAR NOT NULL,
  name VARCHAR NOT NULL, created FLOAT NOT NULL, expires FLOAT, revoked FLOAT, PRIMARY KEY (id), UNIQUE (digest));
CREATE INDEX ix_keys_project ON keys (project);
INSERT INTO projects VALUES ('default', 1.0);
"""


def test_a_file_from_before_keys_had_limits_goes_on_and_its_keys_have_none(tmp_path: Path):
    secret = "sk-plaudit-old"
    with sqlite3.connect(tmp_path / "plaudit.db") as connection:
        connection.executescript(OLD_SCHEMA)
        row = ("key_old", hashlib.sha256(secret.encode()).hexdigest(), "default", "app", "old", 1.0, None, None)
        connection.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    keys = KeyStore(tmp_path / "plaudit.db")
    assert keys.check(secret) == Caller(("default",), "app", "key_old")
    assert keys.list("default") == [KeyInfo("key_old", ("default",), "app", "old", 1.0)]
    assert keys.create("default", "app", limits=KeyLimits(concurrent=1))[1].limits.concurrent == 1
    keys.close()


def test_processes_that_open_a_new_database_at_once_all_can(where: str):
    code = (
        "import sys\n"
        "from serving.keys import KeyStore\n"
        "sys.stdin.readline()\n"
        "keys = KeyStore(sys.argv[1])\n"
        "keys.ensure_project('default')\n"
        "keys.create('default', 'app')\n"
    )
    command = [sys.executable, "-c", code, where]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    told = [worker.communicate("\n", timeout=60)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4, told
    keys = KeyStore(where)
    assert len(keys.all()) == 4
    keys.close()


def test_a_projects_origins_are_kept_with_it_and_replaced_whole(store: KeyStore):
    assert store.create_project("shop", ["https://b.example", "https://a.example", "https://a.example"])
    assert store.origins() == {"shop": ("https://a.example", "https://b.example")}
    assert not store.create_project("shop", ["https://c.example"])
    store.set_origins("shop", ["http://localhost:3000"])
    assert store.origins() == {"shop": ("http://localhost:3000",)}
    store.set_origins("shop", [])
    assert store.origins() == {}
    with pytest.raises(LookupError, match="nowhere"):
        store.set_origins("nowhere", [])
    for name, origins in (("Shop", []), ("new", ["https://a.example/"])):
        with pytest.raises(ValueError):
            store.create_project(name, origins)
    assert list(store.projects()) == ["default", "shop"]


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


def test_a_key_of_several_projects_chats_with_each_by_its_name_and_lists_them_all(served: Gateway):
    served.keys.ensure_project("shop")
    secret, _ = served.keys.create("shop", "app", also=("other",))
    headers = {"authorization": f"Bearer {secret}"}
    listed = served.http.get("/v1/models", headers=headers).json()
    assert [model["id"] for model in listed["data"]] == ["shop", "other"]
    for project in ("shop", "other"):
        assert served.http.get(f"/v1/models/{project}", headers=headers).json()["id"] == project
        reply = served.http.post("/v1/chat/completions", headers=headers, json=question("hi") | {"model": project})
        assert (reply.status_code, reply.json()["model"]) == (200, project)
        completion = reply.json()["plaudit"]["completion_id"]
        assert served.completion(completion).completion_id == completion
        (event,) = [event for event in served.events("completions") if event.id == completion]
        assert event.project == project
        rated = served.http.post(
            "/v1/feedback", headers=headers, json={"type": "rating", "value": 1, "completion_id": completion}
        )
        assert rated.status_code == 201
        assert served.events("feedback")[-1].project == project
    refused = error_of(served.http.post("/v1/chat/completions", headers=headers, json=question()), 404)
    assert (refused["code"], "'shop', 'other'" in refused["message"]) == ("model_not_found", True)


def test_a_key_that_has_used_up_its_requests_is_told_so_on_every_route(served: Gateway):
    secret, _ = served.keys.create("default", "app", limits=KeyLimits(requests_per_min=4))
    headers = {"authorization": f"Bearer {secret}"}
    answer = served.http.post("/v1/chat/completions", headers=headers, json=question())
    about = {"type": "rating", "value": 1, "completion_id": answer.json()["plaudit"]["completion_id"]}
    replies = [
        answer,
        served.http.post("/v1/feedback", headers=headers, json=about),
        served.http.get("/v1/models", headers=headers),
        served.http.get("/v1/models/default", headers=headers),
    ]
    assert [reply.status_code for reply in replies] == [200, 201, 200, 200]
    assert [reply.headers["x-ratelimit-remaining-requests"] for reply in replies] == ["3", "2", "1", "0"]
    before = served.written()
    for method, path, body in (
        ("POST", "/v1/chat/completions", question()),
        ("POST", "/v1/feedback", about),
        ("GET", "/v1/models", None),
        ("GET", "/v1/models/default", None),
    ):
        reply = served.http.request(method, path, headers=headers, json=body)
        error = error_of(reply, 429)
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert 1 <= int(reply.headers["retry-after"]) <= 60
    assert served.written() == before
    assert served.http.get("/v1/models", headers=served.bearer).status_code == 200, "other keys go on"


def test_the_openai_sdk_sees_a_limit_as_its_own_rate_limit_error(served: Gateway):
    secret, _ = served.keys.create("default", "app", limits=KeyLimits(tokens_per_min=1))
    with openai.OpenAI(base_url=served.url + "/v1", api_key=secret, max_retries=0, timeout=15) as client:
        client.chat.completions.create(model="default", messages=question()["messages"])
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model="default", messages=question()["messages"])
    assert "tokens a minute" in refused.value.message
