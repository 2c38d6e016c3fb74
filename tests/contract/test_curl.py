"""Plain ``curl``, as in OpenAI's own documentation."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from contract_gateway import Held

ASK: dict[str, Any] = {
    "model": "default",
    "messages": [{"role": "user", "content": "What is 2 plus 3?"}],
    "max_tokens": 8,
    "temperature": 0,
}


@pytest.fixture
def curl(held: Held, require: Callable[[str, str], None]) -> Callable[..., tuple[int, str]]:
    """``curl(body, key, *flags)``: the status and what was printed."""
    if shutil.which("curl") is None:
        require("curl", "there is no curl on this machine (Debian: apt-get install curl)")

    def ask(body: Any, key: str, *flags: str) -> tuple[int, str]:
        headers = ("-H", f"Authorization: Bearer {key}", "-H", "Content-Type: application/json")
        command = ["curl", "-sS", "-w", "\n%{http_code}", *flags, *headers, "-d", json.dumps(body)]
        done = subprocess.run([*command, held.url + "/v1/chat/completions"], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        said, _, status = done.stdout.rpartition("\n")
        return int(status), said

    return ask


def test_curl_gets_an_answer(held: Held, curl: Callable[..., tuple[int, str]]):
    status, said = curl(ASK, held.gateway.key())
    answer = json.loads(said)
    assert (status, answer["object"]) == (200, "chat.completion")
    assert answer["choices"][0]["message"]["content"]


def test_curl_gets_a_stream_of_events_with_a_receipt_in_the_last(held: Held, curl: Callable[..., tuple[int, str]]):
    status, said = curl(ASK | {"stream": True}, held.gateway.key(), "-N", "-i")
    head, _, body = said.partition("\n\n")
    assert status == 200
    names = {line.partition(":")[0].lower() for line in head.splitlines()}
    assert {"content-type", "x-request-id", "x-plaudit-receipt"} <= names
    events = [line.removeprefix("data: ") for line in body.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    assert "receipt" in json.loads(events[-2])["plaudit"]


def test_curl_with_a_wrong_key_is_told_so_in_openais_shape(curl: Callable[..., tuple[int, str]]):
    status, said = curl(ASK, "sk-wrong")
    error = json.loads(said)["error"]
    assert (status, error["code"], error["type"]) == (401, "invalid_api_key", "authentication_error")
    assert error["message"]
