"""``plaudit serve`` as a process of its own: what it keeps when it is killed, what it finishes when it is asked to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
from chat_upstream import ChatUpstream
from gateway_parts import question, until

from feedback.events import CompletionCreated, Event, Topic
from feedback.log import TopicReader
from feedback.sqlite_log import SqliteLog
from ops.process import module


@contextmanager
def process(
    folder: Path, upstream: ChatUpstream, port: int, cwd: Path | None = None, **settings: int
) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """A started gateway that is ready, and a client with its first key; ``settings`` beside the usual ones."""
    environment = (
        dict(os.environ)
        | {
            "PLAUDIT_DATA_DIR": str(folder),
            "PLAUDIT_ENGINE_URL": upstream.url,
            "PLAUDIT_PORT": str(port),
        }
        | {f"PLAUDIT_{name.upper()}": str(value) for name, value in settings.items()}
    )
    gateway = subprocess.Popen(module("ops.cli", "serve"), env=environment, cwd=cwd, stdout=subprocess.PIPE, text=True)
    try:
        assert gateway.stdout is not None
        key = gateway.stdout.readline().split()[-1]
        headers = {"authorization": f"Bearer {key}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=15) as client:
            until(lambda: is_ready(client), 30)
            yield gateway, client
    finally:
        gateway.kill()
        gateway.communicate(timeout=10)


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def events_in(folder: Path, topic: Topic) -> list[Event]:
    log = SqliteLog(folder / "log.db")
    try:
        return [record.event for record in TopicReader(log, topic).drain()]
    finally:
        log.close()


def test_a_gateway_killed_right_after_a_201_has_lost_nothing(tmp_path: Path, upstream: ChatUpstream, free_port: int):
    with process(tmp_path, upstream, free_port) as (gateway, client):
        answers = [client.post("/v1/chat/completions", json=question()).json() for _ in range(3)]
        bodies = [{"type": "rating", "value": 1, "receipt": answer["plaudit"]["receipt"]} for answer in answers]
        replies = [client.post("/v1/feedback", json=body) for body in bodies]
        gateway.send_signal(signal.SIGKILL)
        gateway.wait(10)
    assert [reply.status_code for reply in replies] == [201] * 3
    assert {event.id for event in events_in(tmp_path, "feedback")} == {reply.json()["id"] for reply in replies}


def test_a_gateway_asked_to_stop_finishes_running_answers_and_writes_them_down(
    tmp_path: Path, upstream: ChatUpstream, free_port: int
):
    with process(tmp_path, upstream, free_port) as (gateway, client):
        body = question("slowly word") | {"stream": True}
        with client.stream("POST", "/v1/chat/completions", json=body) as reply:
            lines = reply.iter_lines()
            first = next(lines)
            gateway.send_signal(signal.SIGTERM)
            until(lambda: not is_listening(free_port))  # it takes no new ones
            upstream.go_on.set()
            rest = [line for line in lines if line]
        gateway.wait(10)
    assert first.startswith("data: ")
    assert rest[-1] == "data: [DONE]"
    (event,) = events_in(tmp_path, "completions")
    assert isinstance(event.data, CompletionCreated)
    assert event.data.outcome == "ok"


def test_an_answer_that_takes_longer_than_the_drain_ends_with_an_error(tmp_path: Path, upstream: ChatUpstream, free_port: int):
    with process(tmp_path, upstream, free_port, limits__drain_s=1) as (gateway, client), ThreadPoolExecutor(1) as pool:
        late = pool.submit(client.post, "/v1/chat/completions", json=question("late word"))
        with client.stream("POST", "/v1/chat/completions", json=question("slowly word") | {"stream": True}) as reply:
            lines = reply.iter_lines()
            next(lines)
            until(lambda: upstream.running == 2)
            gateway.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        assert late.result(20).status_code == 503
        gateway.wait(10)
    assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "shutting_down"
    assert late.result().json()["error"]["code"] == "shutting_down"


def test_folders_of_our_packages_names_in_the_current_directory_are_not_run(
    tmp_path: Path, upstream: ChatUpstream, free_port: int
):
    for package in ("ops", "serving", "feedback"):
        (tmp_path / "here" / package).mkdir(parents=True)
        (tmp_path / "here" / package / "__init__.py").write_text("raise SystemExit('somebody else's')")
    with process(tmp_path / "data", upstream, free_port, cwd=tmp_path / "here") as (_, client):
        assert client.post("/v1/chat/completions", json=question()).status_code == 200


def is_listening(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5)
    except httpx.TransportError:
        return False
    return True
