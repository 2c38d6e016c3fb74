"""A load generator for small JSON requests, in a process of its own: every answer's status is checked, and its outcomes.

It reads a `Posts` as JSON on standard input and prints a `Posted` as JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from ops.bench.children import Cpus, at_birth
from ops.bench.client import Client
from ops.bench.load import Quantiles, quantiles_ms
from ops.errors import CommandError
from ops.process import module

_GRACE_S = 60.0


@dataclass(frozen=True)
class Posts:
    """What to send: ``bodies`` in turn, ``requests`` in all. With ``rate`` they are due so many times a second."""

    url: str
    """``http://host:port/path``"""
    bodies: tuple[str, ...]
    requests: int
    connections: int = 1
    rate: float = 0.0
    """0: each connection sends its next request when it has its answer."""
    seconds: float = 30.0
    """No request is sent later than this after the first."""
    warmup: int = 0
    """Requests before those that are timed."""


@dataclass(frozen=True)
class Posted:
    """The counts include the warm-up, the other figures do not."""

    requests: int
    failed: int
    items: int
    """Judgements acknowledged: one for a 201, those of status 201 in a 207."""
    seconds: float
    requests_per_s: float
    items_per_s: float
    latency_ms: Quantiles
    """To the last byte; with a rate, from when the request was due."""
    failures: dict[str, int]


class _Run:
    """One series of requests, timed. The owner of its clients (`ops.bench.client.Owner`)."""

    def __init__(self, posts: Posts, requests: list[bytes]) -> None:
        self._posts, self._requests = posts, requests
        self._clients: list[Client] = []
        self._idle: deque[Client] = deque()
        self._due: deque[float] = deque()
        self._since: dict[Client, float] = {}
        self._sent = self._done = self.items = 0
        self.latencies: list[float] = []
        self.failures: Counter[str] = Counter()
        self._over = asyncio.Event()
        self.started = self.last = 0.0

    async def run(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(min(self._posts.connections, self._posts.requests)):
            _, client = await loop.create_connection(lambda: Client(self), host, port)
            self._clients.append(client)
        self._idle.extend(self._clients)
        self.started = self.last = time.perf_counter()
        if self._posts.rate:
            await self._open_loop()
        else:
            for client in list(self._idle):
                self._next(client)
        self._look_for_end()
        await asyncio.wait_for(self._over.wait(), self._posts.seconds + _GRACE_S)
        for client in self._clients:
            client.close()

    async def _open_loop(self) -> None:
        for number in range(self._posts.requests):
            due = self.started + number / self._posts.rate
            await asyncio.sleep(due - time.perf_counter())
            self._due.append(due)
            if self._idle:
                self._next(self._idle[0])

    def _next(self, client: Client) -> None:
        """Send what is to be sent next, or let the client rest."""
        if client in self._idle:
            self._idle.remove(client)
        now = time.perf_counter()
        late = now - self.started > self._posts.seconds
        left = bool(self._due) if self._posts.rate else self._sent < self._posts.requests
        if late or not left or not client.open:
            self._idle.append(client)
            return
        self._since[client] = self._due.popleft() if self._posts.rate else now
        request = self._requests[self._sent % len(self._requests)]
        self._sent += 1
        client.send(request)

    def answered(self, client: Client, status: int, body: bytes) -> None:
        outcomes = [each["status"] for each in json.loads(body)["data"]] if status == 207 else [status]
        self.items += outcomes.count(201)
        wrong = next((each for each in outcomes if each != 201), None)
        if wrong is not None:
            self.failures[f"status {wrong}"] += 1
        self._finished(client)

    def failed(self, client: Client, why: str) -> None:
        self.failures[why] += 1
        self._finished(client)

    def lost(self, client: Client) -> None:
        """A gateway does not hang up in the middle of a bench: what is left is sent by the other clients."""
        if client in self._idle:
            self._idle.remove(client)
        self._look_for_end()

    def _finished(self, client: Client) -> None:
        self.last = time.perf_counter()
        self.latencies.append(self.last - self._since[client])
        self._done += 1
        self._next(client)
        self._look_for_end()

    def _look_for_end(self) -> None:
        late = time.perf_counter() - self.started > self._posts.seconds
        nobody = not any(client.open for client in self._clients)
        if self._done >= self._sent and (self._sent >= self._posts.requests or late or nobody):
            self._over.set()


async def send(posts: Posts) -> Posted:
    address = urlsplit(posts.url)
    host, port = address.hostname or "127.0.0.1", address.port or 80
    requests = [_request(f"{host}:{port}", address.path, body.encode()) for body in posts.bodies]
    warm = _Run(_warmup_of(posts), requests)
    if posts.warmup:
        await warm.run(host, port)
    run = _Run(posts, requests)
    gc.collect()
    gc.disable()
    await run.run(host, port)
    gc.enable()
    seconds = max(run.last - run.started, 1e-9)
    return Posted(
        requests=len(run.latencies) + len(warm.latencies),
        failed=sum((run.failures + warm.failures).values()),
        items=run.items + warm.items,
        seconds=seconds,
        requests_per_s=len(run.latencies) / seconds,
        items_per_s=run.items / seconds,
        latency_ms=quantiles_ms(run.latencies),
        failures=dict(run.failures + warm.failures),
    )


def _warmup_of(posts: Posts) -> Posts:
    return Posts(posts.url, posts.bodies, posts.warmup, posts.connections, seconds=posts.seconds)


def _request(host: str, path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def apply(posts: Posts, cpus: Cpus = None) -> Posted:
    """`send` in a process of its own. Raises `CommandError` if that fails itself."""
    done = subprocess.run(
        module("ops.bench.posts"),
        input=json.dumps(asdict(posts)).encode(),
        capture_output=True,
        timeout=2 * posts.seconds + 2 * _GRACE_S + 60,
        preexec_fn=at_birth(cpus),
    )
    if done.returncode:
        raise CommandError(f"the load generator failed: {done.stderr.decode(errors='replace').strip()[-1000:]}")
    return posted_of(json.loads(done.stdout))


def posted_of(value: dict[str, Any]) -> Posted:
    return Posted(**(value | {"latency_ms": Quantiles(**value["latency_ms"])}))


def main() -> None:
    import uvloop

    value = json.load(sys.stdin)
    result = uvloop.run(send(Posts(**(value | {"bodies": tuple(value["bodies"])}))))
    json.dump(asdict(result), sys.stdout)


if __name__ == "__main__":
    main()
