"""A whole Plaudit of real processes, as tests see it: over HTTP, and through its log and its registry on disk."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from lora_by_hand import write_adapter

from feedback.events import AdapterRefused, CompletionCreated, Event, RolloutChanged
from feedback.ids import uuid7
from feedback.log import TopicReader
from feedback.sqlite_log import SqliteLog
from ops.deployment import ENDED
from ops.models import prepared
from ops.registry import GateResult, Registry
from ops.settings import Settings
from serving.keys import ALL_PROJECTS, KeyStore

VOTES = 200
"""New votes that start a training cycle."""

ENGINE_WAIT_S = 200.0
"""How long a request waits for an engine that is being started again."""

NO_END = {"1": -100}
"""A logit bias under which the starter model never ends its answer."""


def until(condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """The condition's value once it is true; fails after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        threading.Event().wait(0.02)
    return value


@dataclass
class Streamed:
    """What one streamed answer was, and when (monotonic seconds)."""

    started: float
    pieces: int = 0
    text: str = ""
    finish_reason: str | None = None
    completion_id: str = ""
    ended: float = 0.0
    error: str = ""
    first: threading.Event = field(default_factory=threading.Event)


class Stack:
    def __init__(self, settings: Settings, pids: Callable[[], dict[str, int]]) -> None:
        """``pids``: the process ids at the moment, by name."""
        self.settings, self.pids = settings, pids
        self.log = SqliteLog(settings.log_path)
        self.registry = Registry(settings.adapters_dir)
        self.url = f"http://{settings.host}:{settings.port}"
        self._completions: dict[str, CompletionCreated] = {}
        self._reader = TopicReader(self.log, "completions")
        keys = KeyStore(settings)
        self.key = keys.create("default", "app", "e2e")[0]
        operator_key = keys.create(ALL_PROJECTS, "operator", "e2e")[0]
        keys.close()
        headers = {"authorization": f"Bearer {self.key}"}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self.http = httpx.Client(base_url=self.url, headers=headers, timeout=2 * ENGINE_WAIT_S, limits=limits)
        admin_url = f"http://{settings.admin_host}:{settings.admin_port}"
        operator = {"authorization": f"Bearer {operator_key}"}
        self.admin = httpx.Client(base_url=admin_url, headers=operator, timeout=60, limits=limits)
        self.pool = ThreadPoolExecutor(48, thread_name_prefix="client")

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)
        self.http.close()
        self.admin.close()
        self.log.close()

    # chat

    def post(self, text: str, **more: Any) -> httpx.Response:
        body = {"model": "default", "messages": [{"role": "user", "content": text}], "temperature": 0, **more}
        return self.http.post("/v1/chat/completions", json=body)

    def chat(self, text: str, **more: Any) -> tuple[str, str]:
        """An answer and its completion id."""
        reply = self.post(text, **more)
        assert reply.status_code == 200, reply.text
        answer = reply.json()
        return answer["choices"][0]["message"]["content"], answer["plaudit"]["completion_id"]

    def streams(self, texts: list[str], **more: Any) -> list[tuple[Streamed, Future[None]]]:
        made = [Streamed(time.monotonic()) for _ in texts]
        return [(one, self.pool.submit(self.stream, one, text, more)) for one, text in zip(made, texts, strict=True)]

    def stream(self, into: Streamed, text: str, more: dict[str, Any]) -> None:
        """One streamed answer, written into ``into`` as it comes."""
        body = {"model": "default", "messages": [{"role": "user", "content": text}], "temperature": 0, "stream": True, **more}
        with self.http.stream("POST", "/v1/chat/completions", json=body) as response:
            assert response.status_code == 200, response.read()
            for line in response.iter_lines():
                if not line.startswith("data: {"):
                    continue
                chunk = json.loads(line[6:])
                into.error = into.error or str(chunk.get("error", ""))
                into.completion_id = chunk.get("plaudit", {}).get("completion_id", into.completion_id)
                for choice in chunk.get("choices", ()):
                    into.text += choice["delta"].get("content") or ""
                    into.pieces += bool(choice["delta"].get("content"))
                    into.finish_reason = choice["finish_reason"] or into.finish_reason
                if into.pieces:
                    into.first.set()
        into.ended = time.monotonic()

    def completion(self, completion_id: str) -> CompletionCreated:
        """The event of an answer, once it is in the log."""

        def look() -> CompletionCreated | None:
            for record in self._reader.poll():
                if isinstance(record.event.data, CompletionCreated):
                    self._completions[record.event.data.completion_id] = record.event.data
            return self._completions.get(completion_id)

        found: CompletionCreated = until(look, 15, f"completion {completion_id} in the log")
        return found

    def adapter_of(self, completion_id: str) -> str:
        return self.completion(completion_id).exposure.adapter

    # deployment

    def publish(self, seed: int, **weights: Any) -> str:
        """An adapter as if it had passed its gates, child of the present champion; its id. It changes little: it can chat."""
        staging = self.settings.data_dir / f"staging-{uuid7()}"
        write_adapter(staging, Path(prepared(self.settings).path), seed=seed, **({"scale": 0.02} | weights))
        gate = GateResult(name="win_rate", passed=True, value=0.6, threshold=0.5)
        digest = prepared(self.settings).digest
        return self.registry.publish(
            staging, project="default", parent=self.champion(), base_model=digest, training={}, gates=[gate], now=time.time()
        ).id

    def control(self) -> list[Any]:
        events = [record.event for record in TopicReader(self.log, "control").drain()]
        return [event.data for event in sorted(events, key=lambda event: event.time)]

    def changes(self) -> list[RolloutChanged]:
        return [data for data in self.control() if isinstance(data, RolloutChanged)]

    def refusals(self, adapter: str) -> list[AdapterRefused]:
        return [data for data in self.control() if isinstance(data, AdapterRefused) and data.adapter == adapter]

    def champion(self) -> str:
        changes = self.changes()
        return changes[-1].champion if changes else "base"

    def change(self, **change: Any) -> None:
        """The latest change of the deployment with some fields replaced, as if the controller had decided it."""
        data = RolloutChanged.model_validate(self.changes()[-1].model_dump() | change)
        self.log.append([Event(id=uuid7(), time=time.time(), project="default", key="default", data=data)])

    def promote(self, adapter: str) -> None:
        self.change(state="PROMOTED", previous="CANARY", champion=adapter, challenger=None, coverage=0.0, promotions=1)

    def end_rollout(self) -> None:
        """Roll back whoever is challenger, so that the next one can come."""
        changes = self.changes()
        if changes and changes[-1].challenger is not None and changes[-1].state not in ENDED:
            self.change(state="ROLLED_BACK", previous=changes[-1].state, coverage=0.0)

    def serves(self, role: str, adapter: str) -> bool:
        """Whether the gateway tells its operators so."""
        page = self.admin.get("/metrics").text
        return f'plaudit_adapter_info{{adapter="{adapter}",project="default",role="{role}"}} 1.0' in page

    def champion_adapter(self) -> str:
        """The champion, made one from the challenger or a new adapter if it is the base still."""
        if self.champion() == "base":
            changes = self.changes()
            adapter = (changes[-1].challenger if changes else None) or self.publish(seed=1)
            until(lambda: self.exposed(adapter), 30, "the challenger is served")
            self.promote(adapter)
            until(lambda: self.serves("champion", adapter), 30, "the champion is served")
        return self.champion()

    def exposed(self, adapter: str) -> bool:
        """Whether users meet it as challenger, and the controller has said so: it adds nothing for now."""
        changes = [(change.challenger, change.state) for change in self.changes()]
        return changes[-1:] == [(adapter, "CANARY")] and self.serves("challenger", adapter)

    # processes

    def kill(self, name: str) -> int:
        """SIGKILL the process of that name; its former process id."""
        pid = self.pids()[name]
        os.kill(pid, signal.SIGKILL)
        return pid

    def replaced(self, name: str, pid: int) -> bool:
        """Whether another process of that name runs."""
        return self.pids().get(name, pid) != pid

    def engine_group(self) -> int:
        """The process group of the engine."""
        return int((self.settings.run_dir / "engine.pid").read_text())

    def signal_engine(self, number: int) -> int:
        group = self.engine_group()
        os.killpg(group, number)
        return group

    def ready(self) -> bool:
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False  # the gateway itself is being started again

    def restarted(self, old_group: int, timeout_s: float) -> None:
        """Wait for an engine of another process group that is ready."""

        def look() -> bool:
            try:
                return self.engine_group() != old_group and self.ready()
            except (OSError, ValueError):
                return False

        until(look, timeout_s, "the engine is back")
