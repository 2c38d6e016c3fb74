"""An HTTP server with vLLM's paths that rollouts use, for what the real one does not do on demand: fail, stall, talk nonsense."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class ScriptedVllm:
    """``answer`` is "tokens" (every choice is token 65 then 66), "nonsense", "error", or "silence". ``loaded``: name to path."""

    url: str = ""
    token: str = ""
    """That everybody has to send."""
    answer: str = "tokens"
    loaded: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    files_were_there: list[bool] = field(default_factory=list)
    let_go: threading.Event = field(default_factory=threading.Event)

    def completion(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.answer == "silence":
            self.let_go.wait(30)
        if self.answer == "error":
            return 500, {"error": {"message": "the engine is dead"}}
        if self.answer == "nonsense":
            return 200, {"choices": [{"text": "hello"}] * len(body["prompt"]) * body["n"]}
        choices = [
            {
                "token_ids": [65, 66],
                "prompt_token_ids": prompt,
                "logprobs": {"token_logprobs": [-1.0, -2.0]},
                "finish_reason": "length",
            }
            for prompt in body["prompt"]
            for _ in range(body["n"])
        ]
        return 200, {"choices": choices}

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.seen.append((path, body))
        if path == "/v1/load_lora_adapter":
            self.loaded[body["lora_name"]] = body["lora_path"]
            self.files_were_there.append((Path(body["lora_path"]) / "adapter_model.safetensors").is_file())
            return 200, {}
        if path == "/v1/unload_lora_adapter":
            known = self.loaded.pop(body["lora_name"], None)
            return (200, {}) if known else (404, {"error": {"message": "not loaded"}})
        return self.completion(body)


class _Handler(BaseHTTPRequestHandler):
    script: ScriptedVllm

    def do_GET(self) -> None:
        if not self._may_ask():
            return
        cards = [{"id": "base", "root": "/model"}, *({"id": n, "root": p} for n, p in self.script.loaded.items())]
        self._reply(200, {"data": cards})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self._may_ask():
            return
        self._reply(*self.script.post(self.path, body))

    def _may_ask(self) -> bool:
        may = self.script.token in ("", (self.headers["authorization"] or "").removeprefix("Bearer "))
        if not may:
            self._reply(401, {"error": "Unauthorized"})
        return may

    def _reply(self, status: int, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        try:
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
        except (BrokenPipeError, ConnectionResetError):
            return  # the client's deadline has passed

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def scripted_vllm() -> Iterator[ScriptedVllm]:
    script = ScriptedVllm()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"script": script}))
    server.daemon_threads = True
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield script
    finally:
        script.let_go.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
