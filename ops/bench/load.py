"""A load generator in a process of its own: streamed chats over raw asyncio, every answer checked to its last byte.

It reads a `Load` as JSON on standard input and prints a `Result` as JSON. An answer counts only if it has status 200, the
text and number of chunks expected, and ended with ``[DONE]``; anything else is a failed request.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ops.bench.client import Client

_CONTENT = re.compile(rb'"content":\s*"((?:[^"\\]|\\.)+)"')
_TOKENS = re.compile(rb'"completion_tokens":\s*(\d+)')
_LOOK_S = 0.25


@dataclass(frozen=True)
class Load:
    """What to send, and what the answers must be.

    With ``rate``, requests start so many times a second whatever becomes of them (open loop, on as many connections as it
    takes); without, each of ``concurrency`` connections sends its next request when it has its answer (closed loop).
    """

    url: str
    """``http://host:port``, or ``unix:/path/to/socket``."""
    model: str
    requests: int
    concurrency: int = 1
    rate: float = 0.0
    seconds: float = 3600.0
    """No request starts later than this after the first."""
    warmup: int = 0
    """Requests before those that are timed; they must be answered well too."""
    key: str = ""
    text: str | None = None
    """The whole answer expected; None: any."""
    chunks: int | None = None
    """Content chunks expected; None: any."""
    tokens: int | None = None
    """``completion_tokens`` expected, which are then asked for; None: they are not."""
    prompt: str = "Question {number}: what is worth knowing about gateways?"
    more: dict[str, Any] = field(default_factory=dict)
    """Further fields of the request."""
    deadline_s: float = 60.0
    """For one answer."""


@dataclass(frozen=True)
class Quantiles:
    """Of one latency, in milliseconds."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True)
class Result:
    """The three counts include the warm-up, the other figures do not."""

    requests: int
    failed: int
    answered: int
    """Good answers: ``requests`` without ``failed``."""
    seconds: float
    requests_per_s: float
    """Good answers a second."""
    tokens_per_s: float
    first_ms: Quantiles
    """To the first token."""
    total_ms: Quantiles
    """To the last byte."""
    failures: dict[str, int]
    """How often what was wrong."""


def quantile(ordered: list[float], q: float) -> float:
    """The ``q``-quantile of sorted values, between the two nearest; NaN of none."""
    if not ordered:
        return float("nan")
    place = q * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def quantiles_ms(seconds: list[float]) -> Quantiles:
    ordered = sorted(seconds)
    return Quantiles(*(round(1000 * quantile(ordered, q), 4) for q in (0.5, 0.9, 0.99)))


def fault_of(load: Load, body: bytes) -> str | None:
    """What is wrong with a streamed answer; None when it is as expected."""
    if not body.rstrip().endswith(b"data: [DONE]"):
        return "no [DONE] at the end"
    if b'"error"' in body:
        return "an error in mid-stream"
    if load.chunks is not None or load.text is not None:
        pieces = _CONTENT.findall(body)
        if load.chunks is not None and len(pieces) != load.chunks:
            return f"{len(pieces)} content chunks, not {load.chunks}"
        if load.text is not None and json.loads(b'"' + b"".join(pieces) + b'"') != load.text:
            return "another text"
    if load.tokens is not None and tokens_of(body) != load.tokens:
        return f"{tokens_of(body)} tokens, not {load.tokens}"
    return None


def tokens_of(body: bytes) -> int:
    """As the last usage in the stream says; 0 without one."""
    found = _TOKENS.findall(body)
    return int(found[-1]) if found else 0


class _Run:
    """One series of requests, timed."""

    def __init__(self, load: Load, requests: int, connect: Callable[[_Run], Any]) -> None:
        self.load = load
        self._requests = requests
        self._connect = connect
        self._clients: list[Client] = []
        self._idle: list[Client] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self._sent = self._done = self.tokens = 0
        self.first: list[float] = []
        self.total: list[float] = []
        self.failures: Counter[str] = Counter()
        self._over = asyncio.Event()
        self._started = self._last = time.perf_counter()

    async def run(self) -> None:
        """Send all requests and wait for their ends."""
        for _ in range(min(self.load.concurrency, self._requests)):
            client = await self._connect(self)
            self._clients.append(client)
            self._idle.append(client)
        self._started = self._last = time.perf_counter()
        watch = asyncio.get_running_loop().create_task(self._watch())
        if self.load.rate:
            await self._open_loop()
        else:
            lanes, self._idle = self._idle, []
            for client in lanes:
                self._next(client)
        await self._over.wait()
        watch.cancel()
        for client in self._clients:
            client.close()

    @property
    def seconds(self) -> float:
        """From the first request to the last answer."""
        return self._last - self._started

    def answered(self, client: Client, status: int, body: bytes) -> None:
        fault = fault_of(self.load, body) if status == 200 else f"status {status}"
        if fault is not None:
            self.failed(client, fault)
            return
        self._last = now = time.perf_counter()
        self.total.append(now - client.started)
        self.first.append((client.first or now) - client.started)
        self.tokens += tokens_of(body) if self.load.tokens is not None else 0
        self._done += 1
        if client.open:
            self._next(client)

    def failed(self, client: Client, why: str) -> None:
        self._last = time.perf_counter()
        self.failures[why] += 1
        self._done += 1
        if client.open:
            self._next(client)

    def lost(self, client: Client) -> None:
        """Another connection in place of one that broke."""
        if client in self._idle:
            self._idle.remove(client)
        self._clients.remove(client)
        if self._more():
            self._in_background(self._replace())
        self._look_for_end()

    def _next(self, client: Client) -> None:
        """The client's next request; with a rate it waits for one to be due."""
        if self.load.rate or not self._more():
            self._idle.append(client)
            self._look_for_end()
            return
        self._send(client)

    def _send(self, client: Client) -> None:
        self._sent += 1
        client.send(self._request(self._sent))

    def _more(self) -> bool:
        return self._sent < self._requests and time.perf_counter() - self._started < self.load.seconds

    def _look_for_end(self) -> None:
        """All is done, or nobody is left who could do it."""
        more = self._more()
        if self._connecting or (more and self.load.rate):
            return
        if not self._clients or (self._done >= self._sent and not more):
            self._over.set()

    async def _replace(self) -> None:
        client = await self._try_connect()
        if client is not None:
            self._next(client)

    async def _send_on_new(self) -> None:
        self._sent += 1
        number = self._sent
        client = await self._try_connect()
        if client is None:
            self._done += 1
        else:
            client.send(self._request(number))

    async def _try_connect(self) -> Client | None:
        try:
            client: Client = await self._connect(self)
        except OSError as error:
            self.failures[f"no connection: {error.strerror or error}"] += 1
            return None
        self._clients.append(client)
        return client

    async def _open_loop(self) -> None:
        step = 1 / self.load.rate
        while self._more():
            due = self._started + self._sent * step
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
                continue
            if self._idle:
                self._send(self._idle.pop())
            else:
                self._in_background(self._send_on_new())
                await asyncio.sleep(0)
        self._look_for_end()

    def _in_background(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._connecting.add(task)
        task.add_done_callback(self._connected)

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        self._look_for_end()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            oldest = time.perf_counter() - self.load.deadline_s
            for client in [client for client in self._clients if client.busy and client.started < oldest]:
                client.give_up("no answer within the deadline")
            self._look_for_end()

    def _request(self, number: int) -> bytes:
        load = self.load
        message = {"role": "user", "content": load.prompt.format(number=number)}
        body: dict[str, Any] = {"model": load.model, "messages": [message], "stream": True, **load.more}
        if load.tokens is not None:
            body |= {"max_tokens": load.tokens, "stream_options": {"include_usage": True}}
        raw = json.dumps(body).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {_host(load.url)}\r\nauthorization: Bearer {load.key}\r\n"
            f"content-type: application/json\r\naccept: text/event-stream\r\ncontent-length: {len(raw)}\r\n\r\n"
        )
        return head.encode() + raw


def _host(url: str) -> str:
    return "engine" if url.startswith("unix:") else urlsplit(url).netloc


async def run(load: Load) -> Result:
    """The warm-up, then the load."""

    async def connect(of: _Run) -> Client:
        loop = asyncio.get_running_loop()
        if load.url.startswith("unix:"):
            return (await loop.create_unix_connection(lambda: Client(of), load.url.removeprefix("unix:")))[1]
        address = urlsplit(load.url)
        return (await loop.create_connection(lambda: Client(of), address.hostname or "", address.port or 80))[1]

    answered, failures = 0, Counter[str]()
    if load.warmup:
        warm = _Run(load, load.warmup, connect)
        await warm.run()
        answered, failures = len(warm.total), warm.failures
    timed = _Run(load, load.requests, connect)
    gc.collect()
    gc.disable()  # a pause of this process is nobody's latency
    await timed.run()
    gc.enable()
    answered, failures = answered + len(timed.total), failures + timed.failures
    return Result(
        requests=answered + failures.total(),
        failed=failures.total(),
        answered=answered,
        seconds=timed.seconds,
        requests_per_s=len(timed.total) / max(timed.seconds, 1e-9),
        tokens_per_s=timed.tokens / max(timed.seconds, 1e-9),
        first_ms=quantiles_ms(timed.first),
        total_ms=quantiles_ms(timed.total),
        failures=dict(failures),
    )


def result_of(value: dict[str, Any]) -> Result:
    """A `Result` from its JSON."""
    return Result(**{**value, "first_ms": Quantiles(**value["first_ms"]), "total_ms": Quantiles(**value["total_ms"])})


def main() -> None:
    import uvloop

    load = Load(**json.load(sys.stdin))
    result = uvloop.run(run(load))
    json.dump(asdict(result), sys.stdout)


if __name__ == "__main__":
    main()
