"""How much a client may send, and how long it may take, as ASGI middleware: counted as it arrives, chunked or not."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import ClientGone, RequestTimeout, TooLarge

_ADVICE = {
    "/v1/chat/completions": ", for example fewer earlier messages",
    "/v1/feedback": ", for example shorter lists",
}
"""By path, of what there may be less."""


class BodyLimit:
    """Reading a body beyond ``max_bytes`` raises `TooLarge`, later than ``timeout_s`` seconds `RequestTimeout`."""

    def __init__(self, app: ASGIApp, max_bytes: int, timeout_s: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            receive = _LimitedReceive(receive, scope, self._max_bytes, self._timeout_s)
        await self._app(scope, receive, send)


async def read_body(scope: Scope, receive: Receive, max_bytes: int, timeout_s: float) -> bytes:
    """The whole body, under the same limits. Raises `ClientGone` too."""
    limited = _LimitedReceive(receive, scope, max_bytes, timeout_s)
    parts = []
    while True:
        message = await limited()
        if message["type"] == "http.disconnect":
            raise ClientGone("The client hung up.")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


class _LimitedReceive:
    def __init__(self, receive: Receive, scope: Scope, max_bytes: int, timeout_s: float) -> None:
        self._receive = receive
        self._path = scope["path"]
        self._declared = _declared_length(scope)
        self._max_bytes = max_bytes
        self._deadline = asyncio.get_running_loop().time() + timeout_s
        self._seen = 0
        self._complete = False

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()
        if self._declared > self._max_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            raise RequestTimeout("The body did not arrive in time: send it at once.") from error
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._seen > self._max_bytes:
                raise self._too_large()
        return message

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body is larger than {self._max_bytes} bytes: send less{_ADVICE.get(self._path, '')}.")


def _declared_length(scope: Scope) -> int:
    """``content-length``, 0 when there is none: then it is counted."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0
