"""A small server that speaks vLLM's HTTP API, in a thread of its own: what it is asked decides how it behaves.

The last message is the script: "say X" answers X; "slowly" sends a word and then waits until it is let go; "break"
breaks off in mid-stream; "much N" says N long words; "call" calls a function, "call oddly" with an id that is none;
"fail" answers 500; "refuse" 400; "late" answers nothing at all. Anything else is answered by the word that is the
model's own (`word_of`), so that a test sees who answered though no client is told.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from pathlib import Path
from typing import Any

from aiohttp import web

BASE = "base"
ARGUMENTS = ('{"a": ', "2}")
"""Of the function that "call" calls, piece by piece."""


def word_of(model: str) -> str:
    return "w" + hashlib.sha256(model.encode()).hexdigest()[:6]


class ChatUpstream:
    def __init__(self, port: int = 0, path: Path | None = None) -> None:
        """``path``: listens on a Unix socket there instead of on a port."""
        self._port, self._path = port, path
        self.requests: list[dict[str, Any]] = []
        self.aborted = 0
        self.running = 0
        self.fails = False
        """Answers every chat with 500, but for the gateway's own probes."""
        self.dying_until = 0.0
        """Until then (monotonic seconds) it takes connections and breaks them off, as a process that is being killed does."""
        self.wants_key = False
        self.adapters: dict[str, str] = {}
        self.go_on = threading.Event()
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="chat-upstream", daemon=True)

    def __enter__(self) -> ChatUpstream:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """As if it were killed; once is enough."""
        if self._loop.is_closed():
            return
        self.go_on.set()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._loop.close()

    def reset(self) -> None:
        self.requests.clear()
        self.aborted = 0
        self.go_on.clear()

    def chats(self) -> list[dict[str, Any]]:
        """The requests of applications, without the gateway's own probes."""
        return [body for body in self.requests if "ignore_eos" not in body and body.get("max_tokens") != 1]

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main())

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/load_lora_adapter", self._load)
        app.router.add_post("/v1/unload_lora_adapter", self._unload)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        if self._path is None:
            await web.TCPSite(runner, "127.0.0.1", self._port, reuse_address=True).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        else:
            await web.UnixSite(runner, self._path).start()
            self.url = f"unix:{self._path}"
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _models(self, request: web.Request) -> web.Response:
        if self.wants_key:
            return _error(401, "AuthenticationError", "Unauthorized")
        return web.json_response(
            {"object": "list", "data": [{"id": name, "owned_by": "vllm"} for name in (BASE, *self.adapters)]}
        )

    async def _load(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.adapters[body["lora_name"]] = body["lora_path"]
        return web.Response(text="Success")

    async def _unload(self, request: web.Request) -> web.Response:
        self.adapters.pop((await request.json())["lora_name"], None)
        return web.Response(text="Success")

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        model = body["model"]
        if model != BASE and model not in self.adapters:
            return _error(404, "NotFoundError", f"The model `{model}` does not exist.")
        if time.monotonic() < self.dying_until and request.transport is not None:
            request.transport.abort()
        script = body["messages"][-1]["content"]
        if script.startswith("refuse"):
            return _error(400, "BadRequestError", "This model's maximum context length is 8 tokens.")
        if script.startswith("fail") or (self.fails and body.get("max_tokens") != 1):
            return _error(500, "InternalServerError", f"{model} in /secret/path exploded")
        text = script[4:] if script.startswith("say ") else word_of(model)
        if script.startswith("much "):
            text = " ".join(["x" * 1000] * int(script[5:]))
        self.running += 1
        try:
            if body.get("stream"):
                return await self._stream(request, body, script, text)
            if script.startswith(("slowly", "late")):
                await self._wait()
            if script.startswith("call"):
                return web.json_response(_calling(body) if script == "call" else _calling(body, call_id=7))
            return web.json_response(_whole(body, text))
        except (asyncio.CancelledError, ConnectionResetError):
            self.aborted += 1
            raise
        finally:
            self.running -= 1

    async def _wait(self) -> None:
        while not self.go_on.is_set():
            await asyncio.sleep(0.005)

    async def _stream(self, request: web.Request, body: dict[str, Any], script: str, text: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        words = text.split(" ")

        async def send(choices: list[dict[str, Any]], **more: Any) -> None:
            chunk = {"id": "up", "object": "chat.completion.chunk", "model": body["model"], "choices": choices, **more}
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

        if script.startswith("late"):
            await self._wait()
        if script == "call":
            words = []
            for delta in ({"id": "c1", "type": "function", "function": {"name": "add"}}, *map(_arguments, ARGUMENTS)):
                await send([{"index": 0, "delta": {"content": None, "tool_calls": [{"index": 0, **delta}]}}])
        await send([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
        for position, word in enumerate(words):
            spaced = word if position == 0 else " " + word
            await send([{"index": 0, "delta": {"content": spaced}, "logprobs": None, "finish_reason": None}])
        if script.startswith("slowly"):
            await self._wait()
        if script.startswith("break"):
            assert request.transport is not None
            request.transport.close()
            return response
        await send([{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}])
        await send([], usage=_usage(body, text))
        await response.write(b"data: [DONE]\n\n")
        return response


def _usage(body: dict[str, Any], text: str) -> dict[str, int]:
    prompt, completion = sum(len((m["content"] or "").split()) for m in body["messages"]), len(text.split())
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _arguments(part: str) -> dict[str, Any]:
    return {"function": {"arguments": part}}


def _calling(body: dict[str, Any], call_id: Any = "c1") -> dict[str, Any]:
    call = {"id": call_id, "type": "function", "function": {"name": "add", "arguments": "".join(ARGUMENTS)}}
    reply = _whole(body, "")
    reply["choices"][0] |= {"message": {"role": "assistant", "content": "", "tool_calls": [call]}, "finish_reason": "tool_calls"}
    return reply


def _token(word: str) -> dict[str, Any]:
    return {"token": word, "bytes": list(word.encode()), "logprob": -float(len(word)) / 7}


def _whole(body: dict[str, Any], text: str) -> dict[str, Any]:
    content = [_token(word) | {"top_logprobs": [_token(word)]} for word in text.split()]
    return {
        "id": "up",
        "object": "chat.completion",
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "tool_calls": []},
                "logprobs": {"content": content} if body.get("logprobs") else None,
                "finish_reason": "stop",
            }
        ],
        "usage": _usage(body, text),
    }


def _error(status: int, type: str, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": type, "param": None, "code": status}}, status=status)
