"""Several processes on one port: they are replaced, die and drain without a client noticing; real processes and sockets."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from chat_upstream import ChatUpstream
from gateway_parts import question, until
from test_serve import events_in, process

from serving.keys import KeyStore


def state(folder: Path) -> dict[str, Any]:
    """Who runs, as the parent tells."""
    told: dict[str, Any] = json.loads((folder / "run" / "gateway.json").read_text())
    return told


class Traffic:
    """Some clients that chat all the time, each over one connection, until told to stop."""

    def __init__(self, url: str, key: str, clients: int) -> None:
        self.answered = 0
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(url, key)) for _ in range(clients)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, url: str, key: str) -> None:
        with httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=20) as client:
            while not self._stop.is_set():
                try:
                    reply = client.post("/v1/chat/completions", json=question() | {"stream": True})
                    whole = reply.status_code == 200 and reply.text.rstrip().endswith("data: [DONE]")
                except httpx.TransportError as error:
                    self.failed.append(repr(error))
                    continue
                if whole:
                    self.answered += 1
                else:
                    self.failed.append(reply.text)


def test_workers_are_replaced_under_load_without_a_failed_request(tmp_path: Path, upstream: ChatUpstream, free_port: int):
    with process(tmp_path, upstream, free_port, workers=2) as (parent, client):
        key = client.headers["authorization"].split()[-1]
        before = state(tmp_path)
        assert len(set(before["workers"])) == 2
        with Traffic(f"http://127.0.0.1:{free_port}", key, clients=4) as traffic:
            until(lambda: traffic.answered > 10, 20)
            parent.send_signal(signal.SIGHUP)
            until(lambda: state(tmp_path)["generation"] == 1, 60)
            seen = traffic.answered
            until(lambda: traffic.answered > seen + 10, 20)
            until(lambda: not any(map(alive, before["workers"])), 30)
        assert traffic.failed == []
        assert not set(state(tmp_path)["workers"]) & set(before["workers"])
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(20) == 0
    answers = events_in(tmp_path, "completions")
    assert len(answers) == traffic.answered


def test_whichever_worker_is_asked_tells_the_metrics_of_all(tmp_path: Path, upstream: ChatUpstream, free_port: int):
    with process(tmp_path, upstream, free_port, workers=2) as (_, client):
        for _ in range(6):
            assert client.post("/v1/chat/completions", json=question(), headers={"connection": "close"}).status_code == 200

        def told() -> dict[str, float]:
            """Chat requests counted, by worker."""
            page = client.get("/metrics", headers={"connection": "close"}).text
            found = re.findall(r'plaudit_requests_total\{route="/v1/chat/completions",status="200",worker="(\d)"\} (\S+)', page)
            assert "plaudit_adapter_info" not in page
            return {slot: float(count) for slot, count in found}

        until(lambda: sum(told().values()) == 6, 20)


def test_the_admin_routes_are_on_their_own_port_and_on_no_other(tmp_path: Path, upstream: ChatUpstream, free_port: int):
    with process(tmp_path, upstream, free_port, admin_port=free_port + 1) as (_, client):
        keys = KeyStore(tmp_path / "plaudit.db")
        secret, _ = keys.create("default", "operator", "tests")
        keys.close()
        operator = {"authorization": f"Bearer {secret}"}
        admin = f"http://127.0.0.1:{free_port + 1}"
        (project,) = httpx.get(f"{admin}/admin/v1/projects", headers=operator, timeout=10).json()["data"]
        assert project["name"] == "default"
        assert client.get("/admin/v1/projects", headers=operator).status_code == 404
        assert httpx.get(f"{admin}/v1/models", headers=operator, timeout=10).status_code == 404
        chat = httpx.post(f"{admin}/v1/chat/completions", headers=operator, json=question(), timeout=10)
        assert chat.status_code == 404
        assert client.get("/admin/v1/projects", headers=operator | {"host": f"127.0.0.1:{free_port + 1}"}).status_code == 404


def test_new_workers_have_the_settings_of_now(tmp_path: Path, upstream: ChatUpstream, free_port: int):
    settings = tmp_path / "plaudit.toml"
    settings.write_text("[limits]\nmax_n = 2\n")
    with process(tmp_path, upstream, free_port, cwd=tmp_path) as (parent, client):
        many = question() | {"n": 3}
        assert "at most 2" in client.post("/v1/chat/completions", json=many).json()["error"]["message"]
        settings.write_text("[limits]\nmax_n = 3\n")
        parent.send_signal(signal.SIGHUP)
        until(lambda: state(tmp_path)["generation"] >= 1, 60)
        until(lambda: client.post("/v1/chat/completions", json=many).status_code == 200, 20)


def test_settings_that_are_wrong_replace_nobody(
    tmp_path: Path, upstream: ChatUpstream, free_port: int, capfd: pytest.CaptureFixture[str]
):
    settings = tmp_path / "plaudit.toml"
    with process(tmp_path, upstream, free_port, cwd=tmp_path) as (parent, client):
        settings.write_text("[limits]\nmax_n = 99\n")
        parent.send_signal(signal.SIGHUP)
        told: list[str] = []
        until(lambda: any("settings_not_reloaded" in line for line in lines_of(capfd, told)), 30)
        (line,) = (json.loads(line) for line in told if "settings_not_reloaded" in line)
        assert line["error"].startswith("limits.max_n=99: ")
        assert "plaudit.toml" in line["error"]
        assert answers(client)
        settings.unlink()
        parent.send_signal(signal.SIGHUP)
        until(lambda: state(tmp_path)["generation"] == 1, 60)


def lines_of(capfd: pytest.CaptureFixture[str], told: list[str]) -> list[str]:
    """What our children have written on standard error, all of it."""
    told += capfd.readouterr().err.splitlines()
    return told


def test_a_worker_that_dies_is_replaced_and_the_other_serves_on(tmp_path: Path, upstream: ChatUpstream, free_port: int):
    with process(tmp_path, upstream, free_port, workers=2) as (_, client):
        first, second = state(tmp_path)["workers"]
        os.kill(first, signal.SIGKILL)
        until(lambda: answers(client), 20)
        until(lambda: len(state(tmp_path)["workers"]) == 2 and first not in state(tmp_path)["workers"], 30)
        assert second in state(tmp_path)["workers"]


def test_workers_die_with_their_parent(tmp_path: Path, upstream: ChatUpstream, free_port: int):
    with process(tmp_path, upstream, free_port, workers=2) as (parent, _):
        workers = state(tmp_path)["workers"]
        parent.kill()
        parent.wait(10)
        until(lambda: not any(map(alive, workers)), 10)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter if it goes between opening and reading
        return False


def answers(client: httpx.Client) -> bool:
    try:
        return client.post("/v1/chat/completions", json=question()).status_code == 200
    except httpx.TransportError:
        return False
