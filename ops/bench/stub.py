"""An upstream that costs next to nothing, so that what is measured in front of it is not its own time.

It has vLLM's routes and shapes; its answers are bytes made beforehand. A stream has 32 content chunks and leaves with one
write per chunk, as an engine's does, or all at once. Run it with ``python -m ops.bench.stub --port N``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import re
import signal
from dataclasses import dataclass, field
from typing import Any, Literal, cast

CHUNKS = 32
WORDS = tuple(f" word{number:02d}" for number in range(CHUNKS))
ANSWER = "".join(WORDS)

Fault = Literal["none", "drop", "fail", "cut"]
"""``drop``: a stream without one of its chunks. ``fail``: a 500. ``cut``: the connection closed in mid-stream."""

_CREATED = 1_700_000_000
_PROMPT_TOKENS = 16
_STREAM = re.compile(rb'"stream":\s*true')
_USAGE = re.compile(rb'"include_usage":\s*true')
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass
class Plan:
    """What the stub does; ``fault`` happens to every ``every``-th streamed answer."""

    at_once: bool = False
    fault: Fault = "none"
    every: int = 10
    streams: int = 0
    adapters: list[str] = field(default_factory=list)

    def fault_now(self) -> Fault:
        self.streams += 1
        return self.fault if self.streams % self.every == 0 else "none"


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, as much of it as clients of an engine use."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            body, self._buffer = self._buffer[end + 4 : whole], self._buffer[whole:]
            self._answer(head.split(b" ", 2)[1], body)

    def _answer(self, path: bytes, body: bytes) -> None:
        if path == b"/v1/chat/completions":
            self._chat(body)
        elif path == b"/v1/models":
            self._transport.write(_json(200, _models(self._plan.adapters)))
        elif path == b"/v1/load_lora_adapter":
            self._plan.adapters.append(json.loads(body)["lora_name"])
            self._transport.write(_json(200, {}))
        elif path == b"/v1/unload_lora_adapter":
            self._plan.adapters.remove(json.loads(body)["lora_name"])
            self._transport.write(_json(200, {}))
        elif path.startswith(b"/health"):
            self._transport.write(_json(200, {}))
        else:
            self._transport.write(_json(404, {"error": {"message": f"no route {path!r}", "type": "NotFoundError", "code": 404}}))

    def _chat(self, body: bytes) -> None:
        if not _STREAM.search(body):
            self._transport.write(_PLAIN)
            return
        fault = self._plan.fault_now()
        if fault == "fail":
            self._transport.write(_json(500, {"error": {"message": "as told", "type": "InternalServerError", "code": 500}}))
            return
        writes = _WITH_USAGE if _USAGE.search(body) else _WITHOUT_USAGE
        if fault == "drop":
            writes = (*writes[:9], *writes[10:])
        elif fault == "cut":
            writes = writes[:9]
        if self._plan.at_once:
            self._transport.write(b"".join(writes))
        else:
            for piece in writes:
                self._transport.write(piece)
        if fault == "cut":
            self._transport.close()


def _json(status: int, value: dict[str, Any]) -> bytes:
    body = json.dumps(value).encode()
    return b"HTTP/1.1 %d -\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)


def _models(adapters: list[str]) -> dict[str, Any]:
    made = [{"id": name, "object": "model", "created": _CREATED, "owned_by": "vllm"} for name in ("base", *adapters)]
    return {"object": "list", "data": made}


def _usage() -> dict[str, int]:
    return {"prompt_tokens": _PROMPT_TOKENS, "total_tokens": _PROMPT_TOKENS + CHUNKS, "completion_tokens": CHUNKS}


def _stream(with_usage: bool) -> tuple[bytes, ...]:
    """The writes of one streamed answer: head, role, content, finish, usage where asked for, end."""
    about: dict[str, Any] = {
        "id": "chatcmpl-00000000000000000000000000000000",
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": "base",
    }

    def chunk(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        return about | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]}

    chunks = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": word}) for word in WORDS), chunk({}, "stop")]
    if with_usage:
        chunks.append(about | {"choices": [], "usage": _usage()})
    events = [json.dumps(value, separators=(",", ":")).encode() for value in chunks] + [b"[DONE]"]
    lines = [b"data: " + event + b"\n\n" for event in events]
    return (_STREAM_HEAD, *(b"%x\r\n%s\r\n" % (len(line), line) for line in lines), b"0\r\n\r\n")


def _plain() -> dict[str, Any]:
    message = {"role": "assistant", "content": ANSWER, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {
        "id": "chatcmpl-00000000000000000000000000000000",
        "object": "chat.completion",
        "created": _CREATED,
        "model": "base",
        "choices": [choice],
        "usage": _usage(),
    }


_WITH_USAGE, _WITHOUT_USAGE = _stream(True), _stream(False)
_PLAIN = _json(200, _plain())


async def serve(port: int, plan: Plan) -> None:
    """Until SIGTERM or SIGINT. asyncio's own loop: uvloop would gather the chunks of an answer into one write."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(lambda: Connection(plan), "127.0.0.1", port, backlog=1024)
    gc.freeze()
    await stop.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ops.bench.stub", description="A stub of an OpenAI-compatible engine.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--at-once", action="store_true", help="A whole streamed answer in one write.")
    parser.add_argument("--fault", choices=["none", "drop", "fail", "cut"], default="none")
    parser.add_argument("--every", type=int, default=10, help="Which streamed answers the fault happens to.")
    options = parser.parse_args()
    asyncio.run(serve(options.port, Plan(options.at_once, options.fault, options.every)))


if __name__ == "__main__":
    main()
