"""Clients that are slow, silent, too many, or speak no HTTP: over real sockets."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from chat_upstream import ChatUpstream
from gateway_parts import Gateway, gateway, question, until

from ops import metrics

SMALL = {"header_timeout_s": 0.3, "body_timeout_s": 0.3, "send_timeout_s": 0.3, "max_connections": 40}


@pytest.fixture
def guarded(tmp_path: Path, upstream: ChatUpstream) -> Iterator[Gateway]:
    with gateway(tmp_path, upstream, limits=SMALL) as running:
        yield running


def connect(served: Gateway) -> socket.socket:
    host, _, port = served.url.removeprefix("http://").partition(":")
    client = socket.create_connection((host, int(port)), timeout=10)
    return client


def read_all(client: socket.socket) -> bytes:
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts)


def refusal(raw: bytes) -> tuple[int, str]:
    """Status and code of an answer in OpenAI's shape."""
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["code"]


@pytest.mark.parametrize("beginning", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n", b"G"])
def test_headers_that_do_not_arrive_in_time_are_not_waited_for(guarded: Gateway, beginning: bytes):
    with connect(guarded) as client:
        client.sendall(beginning)
        assert refusal(read_all(client)) == (408, "request_timeout")


def test_a_second_request_on_a_connection_has_its_own_time_for_headers(guarded: Gateway):
    with connect(guarded) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200 OK" in client.recv(65536)
        client.sendall(b"GET /healthz HTTP/1.1\r\n")
        assert refusal(read_all(client)) == (408, "request_timeout")


def test_the_rest_of_a_body_that_was_answered_already_is_not_waited_for(guarded: Gateway):
    with connect(guarded) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
        assert b"401 Unauthorized" in client.recv(65536)

        def is_closed() -> bool:
            client.send(b" ")
            return client.recv(65536) == b""

        client.settimeout(0.05)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with suppress(TimeoutError):
                if is_closed():
                    return
        pytest.fail("a client that trickles its body is kept for ever")


def test_what_is_not_http_is_refused_in_the_usual_shape(guarded: Gateway):
    with connect(guarded) as client:
        client.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert refusal(read_all(client)) == (400, "invalid_value")


def test_a_client_that_reads_nothing_is_hung_up_on_and_its_answer_given_up(guarded: Gateway, upstream: ChatUpstream):
    body = json.dumps(question("much 20000") | {"stream": True}).encode()
    with connect(guarded) as client:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {guarded.key}\r\n"
        client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        until(lambda: upstream.aborted == 1, 30)
    assert upstream.running == 0


def test_connections_beyond_the_limit_are_told_to_come_back_and_the_others_go_on(guarded: Gateway):
    limits = guarded.settings.limits
    stalled = [connect(guarded) for _ in range(limits.max_connections + 10)]
    refused = [raw for raw in map(read_all, stalled) if raw.startswith(b"HTTP/1.1 503")]
    for client in stalled:
        client.close()
    assert refused
    assert refusal(refused[0]) == (503, "too_many_connections")
    assert b"retry-after: 1" in refused[0]
    until(lambda: guarded.http.get("/healthz").status_code == 200)


def test_a_hundred_stalled_clients_do_not_slow_the_others_down(tmp_path: Path, upstream: ChatUpstream):
    with gateway(tmp_path, upstream) as served:
        stalled = [connect(served) for _ in range(300)]
        for client in stalled:
            client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\n")
        assert served.chat()["choices"][0]["message"]["content"]
        for client in stalled:
            client.close()


def test_metrics_name_no_adapter(guarded: Gateway):
    adapter = guarded.publish(seed=5)
    guarded.deploy(champion=adapter)
    until(lambda: adapter.encode() in metrics.render(metrics.ADMIN))
    page = guarded.http.get("/metrics").text
    assert "plaudit_requests_total" in page
    assert adapter not in page
    assert adapter not in guarded.http.get("/readyz").text
