"""A gateway as its clients see it, that answers as a test tells it to: server-sent events over raw HTTP/1.1."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    line = b"data: " + data + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(line), line)


def said(text: str = "", finish_reason: str | None = None, **more: object) -> bytes:
    return chunk(json.dumps({"choices": [{"delta": {"content": text}, "finish_reason": finish_reason}], **more}).encode())


def whole(number: int, text: str = " seven") -> bytes:
    last = said(finish_reason="length", plaudit={"completion_id": f"c{number}"})
    return HEAD + said(text) + said(text) + last + chunk(b"[DONE]") + END


Script = Callable[[int, int], bytes]
"""From a request's number, and its number on its connection, to the bytes of the response; none: the connection is closed."""


@asynccontextmanager
async def gateway(script: Script) -> AsyncIterator[str]:
    """A server that answers as it is told, and closes after bytes that do not end a response."""
    requests = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        on_this = 0
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            answer = script(requests, on_this)
            requests, on_this = requests + 1, on_this + 1
            writer.write(answer)
            if not answer.endswith((END, b"{}")):
                break
        writer.close()

    async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(quietly, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
