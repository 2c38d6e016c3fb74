"""One HTTP/1.1 connection that asks for streamed answers, one after another: no more of HTTP than that takes."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Protocol, cast

_TOKEN = re.compile(rb'"content":\s*"[^"]')
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection:\s*close", re.IGNORECASE)


class Owner(Protocol):
    """Whoever sends the requests, told what becomes of each: exactly one of the first two."""

    def answered(self, client: Client, status: int, body: bytes) -> None: ...

    def failed(self, client: Client, why: str) -> None: ...

    def lost(self, client: Client) -> None:
        """The connection is closed."""
        ...


class Client(asyncio.Protocol):
    """One request at a time; a whole answer has a length or comes in chunks."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._buffer = bytearray()
        self._body_at = -1
        self._length: int | None = None
        self._transport: asyncio.Transport | None = None
        self.started = 0.0
        """When the request was sent (`time.perf_counter`)."""
        self.first: float | None = None
        """When the first token came."""
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes) -> None:
        assert self._transport is not None
        self._buffer.clear()
        self._body_at, self._length, self.first, self.busy = -1, None, None, True
        self.started = time.perf_counter()
        self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def give_up(self, why: str) -> None:
        """End the running request, and with it the connection."""
        self.close()
        self._fail(why)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self.first is None and _TOKEN.search(self._buffer):
            self.first = time.perf_counter()
        if self._body_at < 0:
            self._read_head()
        if self._body_at < 0 or not self.busy:
            return
        if self._length is not None:
            if len(self._buffer) >= self._body_at + self._length:
                self._end(bytes(self._buffer[self._body_at :]))
        elif self._buffer.endswith(b"0\r\n\r\n"):
            body = dechunked(bytes(self._buffer[self._body_at :]))
            if body is not None:
                self._end(body)

    def connection_lost(self, error: Exception | None) -> None:
        if self.busy:
            self._fail("the connection broke")
        self._owner.lost(self)

    def _read_head(self) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if end >= 0:
            length = _LENGTH.search(self._buffer, 0, end + 2)
            self._body_at, self._length = end + 4, int(length[1]) if length else None

    def _end(self, body: bytes) -> None:
        if _CLOSES.search(self._buffer, 0, self._body_at):
            self.close()
        self.busy = False
        self._owner.answered(self, int(self._buffer[9:12]), body)

    def _fail(self, why: str) -> None:
        self.busy = False
        self._owner.failed(self, why)


def dechunked(raw: bytes) -> bytes | None:
    """The body of a message in HTTP/1.1 chunks; None as long as its last chunk is not there."""
    parts: list[bytes] = []
    position = 0
    while (end := raw.find(b"\r\n", position)) >= 0:
        size = int(raw[position:end].split(b";")[0], 16)
        position = end + 2 + size + 2
        if position > len(raw):
            return None
        if size == 0:
            return b"".join(parts)
        parts.append(raw[end + 2 : end + 2 + size])
    return None
