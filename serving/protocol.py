"""One client's connection: uvicorn's HTTP/1.1, with the deadlines it lacks.

A client that sends its headers slowly is told so and hung up on; one that does not read what it is sent is cut off;
beyond ``max_connections`` clients are told to come back. What is refused here is refused in OpenAI's shape.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ops.settings import LimitSettings
from serving.errors import ApiError, InvalidRequest, RequestTimeout, Unavailable


class GuardedProtocol(HttpToolsProtocol):
    def __init__(self, *args: Any, limits: LimitSettings, **named: Any) -> None:
        super().__init__(*args, **named)
        self._limits = limits
        self._late: asyncio.TimerHandle | None = None
        """Runs while headers are awaited."""
        self._stalled: asyncio.TimerHandle | None = None
        """Runs while the client reads nothing."""
        self._unread: asyncio.TimerHandle | None = None
        """Runs while the rest of a body comes that was answered already."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._limits.max_connections:
            text = f"This server has {self._limits.max_connections} connections open, and takes no more: try again."
            self._refuse(Unavailable(text, code="too_many_connections", retry_after_s=1))
            return
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        _cancel(self._late)
        _cancel(self._stalled)
        _cancel(self._unread)
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._late is None:
            self._await_headers()

    def on_headers_complete(self) -> None:
        _cancel(self._late)
        self._late = None
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        if self.cycle.more_body and not self.transport.is_closing():
            self._unread = self.loop.call_later(self._limits.body_timeout_s, self.transport.close)
        super().on_response_complete()

    def on_message_complete(self) -> None:
        _cancel(self._unread)
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        _cancel(self._stalled)
        self._stalled = self.loop.call_later(self._limits.send_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        _cancel(self._stalled)
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        self._refuse(InvalidRequest("This is not HTTP/1.1: send 'POST /path HTTP/1.1', headers, an empty line and the body."))

    def _await_headers(self) -> None:
        self._late = self.loop.call_later(self._limits.header_timeout_s, self._too_late)

    def _too_late(self) -> None:
        text = f"The headers did not arrive within {self._limits.header_timeout_s:g} s: send them at once."
        self._refuse(RequestTimeout(text))

    def _refuse(self, error: ApiError) -> None:
        """Answer before there is a request, and hang up."""
        _cancel(self._late)
        if self.transport.is_closing():
            return
        body = orjson.dumps(error.body)
        headers = [b"content-type: application/json", b"content-length: %d" % len(body), b"connection: close"]
        if error.retry_after_s is not None:
            headers.append(b"retry-after: %d" % math.ceil(error.retry_after_s))
        self.transport.write(STATUS_LINE[error.status] + b"\r\n".join(headers) + b"\r\n\r\n" + body)
        self.transport.close()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
