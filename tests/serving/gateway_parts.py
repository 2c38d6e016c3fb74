"""A whole gateway for tests: real uvicorn, real SQLite log, a registry on disk; only the model behind it is small."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import openai
import uvicorn
from chat_upstream import ChatUpstream
from lora_files import publish, write_lora

from feedback.events import CompletionCreated, Event, FeedbackRetracted, FeedbackSet, RolloutChanged, Topic
from feedback.ids import uuid7
from feedback.log import LogError, Position, TopicReader
from feedback.sqlite_log import SqliteLog
from ops.registry import Registry
from ops.settings import LimitSettings, Settings, load_settings
from serving.app import create_app
from serving.keys import KeyStore
from serving.protocol import GuardedProtocol


def until(condition: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    """The condition's value once it is true; fails after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition was not met in time"
        threading.Event().wait(0.005)
    return value


@contextmanager
def serving_app(app: Any, limits: LimitSettings | None = None) -> Iterator[str]:
    """The address of a real uvicorn that serves ``app`` in a thread, guarded as the gateway's workers are."""
    http: Any = partial(GuardedProtocol, limits=limits or LimitSettings())
    server = uvicorn.Server(uvicorn.Config(app, http=http, port=0, log_config=None, lifespan="on", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, name="gateway")
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(15)
        assert not thread.is_alive()


class BreakableLog(SqliteLog):
    """It appends nothing while `broken` says why."""

    broken: LogError | None = None

    def append(self, events: Sequence[Event], timeout: float = 10.0) -> list[Position]:
        if self.broken is not None:
            raise self.broken
        return super().append(events, timeout)


class Gateway:
    """A running gateway and its log, key and address."""

    def __init__(self, settings: Settings, log: BreakableLog, url: str, coins: list[float]) -> None:
        self.settings, self.log, self.url, self.coins = settings, log, url, coins
        self.keys = KeyStore(settings)
        self.keys.ensure_project("other")
        self.key, self.key_info = self.keys.create("default", "app", "tests")
        self.openai = openai.OpenAI(base_url=url + "/v1", api_key=self.key, max_retries=0, timeout=15)
        self.http = httpx.Client(base_url=url, timeout=15)
        self.bearer = {"authorization": f"Bearer {self.key}"}

    def close(self) -> None:
        self.openai.close()
        self.http.close()
        self.keys.close()

    def chat(self, **body: Any) -> dict[str, Any]:
        """The answer's body to one request with the key."""
        reply = self.http.post("/v1/chat/completions", headers=self.bearer, json=question() | body)
        assert reply.status_code == 200, reply.text
        answer: dict[str, Any] = reply.json()
        return answer

    def feedback(self, **body: Any) -> httpx.Response:
        """Feedback as a browser sends it: without a key."""
        return self.http.post("/v1/feedback", json=body)

    def events(self, topic: Topic) -> list[Event]:
        return sorted((r.event for r in TopicReader(self.log, topic).drain()), key=lambda event: (event.time, event.id))

    def written(self) -> int:
        """How much feedback the log holds."""
        return len(self.events("feedback"))

    def facts(self) -> list[FeedbackSet | FeedbackRetracted]:
        return [e.data for e in self.events("feedback") if isinstance(e.data, FeedbackSet | FeedbackRetracted)]

    def completion(self, completion_id: str) -> CompletionCreated:
        """The event of an answer, once it is in the log."""
        found: CompletionCreated = until(lambda: self._completion(completion_id))
        return found

    def _completion(self, completion_id: str) -> CompletionCreated | None:
        for event in self.events("completions"):
            if isinstance(event.data, CompletionCreated) and event.data.completion_id == completion_id:
                return event.data
        return None

    def completions_of(self, text: str) -> list[CompletionCreated]:
        """The events of answers to a message, whatever became of them."""
        data = [e.data for e in self.events("completions") if isinstance(e.data, CompletionCreated)]
        return [d for d in data if d.text.messages[-1].content == text]

    def publish(self, seed: int, project: str = "default") -> str:
        """A new adapter in the registry; its id."""
        staging = write_lora(self.settings.data_dir / f"staging-{uuid7()}", seed=seed)
        manifest = publish(Registry(self.settings.adapters_dir), staging, project=project, now=time.time())
        return manifest.id

    def deploy(self, **change: Any) -> None:
        """A rollout's change on the control topic, as the controller writes it."""
        data = RolloutChanged(**({"rollout_id": "ro-test", "state": "RAMP", "salt": "salt"} | change))
        self.log.append([Event(id=uuid7(), time=time.time(), project="default", key="default", data=data)])


@contextmanager
def gateway(folder: Path, *upstreams: ChatUpstream, ready: bool = True, **settings: Any) -> Iterator[Gateway]:
    """A gateway over these engines; ``ready``: it is waited for until it can answer."""
    urls = tuple(upstream.url for upstream in upstreams)
    configured = load_settings(data_dir=folder, engine_urls=urls, secret="a secret for tests, long enough", page="on", **settings)
    log = BreakableLog(configured.log_path)
    coins: list[float] = []
    app = create_app(configured, log=log, coin=lambda: coins.pop(0) if coins else 0.25)
    with serving_app(app, configured.limits) as url:
        running = Gateway(configured, log, url, coins)
        try:
            until(lambda: running.http.get("/readyz").status_code == 200 or not ready, 20)
            yield running
        finally:
            running.close()
    log.close()


def question(text: str = "hello") -> dict[str, Any]:
    return {"model": "default", "messages": [{"role": "user", "content": text}]}


def error_of(reply: httpx.Response, status: int) -> dict[str, Any]:
    """The error of a reply in OpenAI's shape, checked for that shape."""
    assert reply.status_code == status, reply.text
    body = reply.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert len(error["message"]) > 10
    assert isinstance(error["type"], str)
    assert reply.headers["x-request-id"].startswith("req_")
    return error
