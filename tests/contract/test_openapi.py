"""The API's description, and schemathesis's attempts to catch it out over a running gateway."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from chat_upstream import ChatUpstream
from gateway_parts import Gateway, error_of, gateway, question, until

from feedback.events import FeedbackSet
from serving import errors
from serving.api_answers import ChatCompletionChunk, ErrorBody
from serving.gate import PUBLIC_PORT
from serving.labeling.plan import StreamPlan
from serving.labeling.streams import Streams

PAGES = {"/", "/static/{name}", "/docs", "/docs/{name}", "/openapi.json"}
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def gateway_to_try(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with ChatUpstream() as upstream, gateway(Path(tmp_path_factory.mktemp("tried")), upstream) as running:
        yield running


@pytest.fixture(scope="module")
def described(gateway_to_try: Gateway) -> dict[str, Any]:
    document: dict[str, Any] = gateway_to_try.http.get("/openapi.json").json()
    return document


def test_every_route_that_is_no_page_is_described_and_no_other(described: dict[str, Any]):
    served = {(method, path.replace(":path", "")) for method, path in PUBLIC_PORT if path not in PAGES}
    assert {(method.upper(), path) for path, methods in described["paths"].items() for method in methods} == served


def test_every_error_that_can_be_told_is_described(described: dict[str, Any]):
    told = {int(status) for path in described["paths"].values() for one in path.values() for status in one["responses"]}
    unsaid = {errors.ClientGone}  # nobody reads it
    known = [kind for kind in errors.ApiError.__subclasses__() if kind not in unsaid]
    assert {status for status in told if status >= 400} == {kind.status for kind in (errors.ApiError, *known)}
    assert all(HTTPStatus(status).phrase for status in told)


def test_how_a_live_task_is_chatted_with_is_described(described: dict[str, Any]):
    schemas = described["components"]["schemas"]
    assert "labeling task of kind 'conversation'" in schemas["ChatRequest"]["properties"]["conversation"]["description"]
    assert "`conversation` in chat requests" in schemas["LabelTask"]["properties"]["id"]["description"]


def test_the_bounds_of_this_deployment_are_described(described: dict[str, Any], gateway_to_try: Gateway):
    chat, limits = described["components"]["schemas"]["ChatRequest"]["properties"], gateway_to_try.settings.limits
    assert chat["n"]["maximum"] == limits.max_n
    assert chat["max_tokens"]["maximum"] == chat["max_completion_tokens"]["maximum"] == limits.max_tokens
    assert chat["messages"]["maxItems"] == limits.max_messages


def test_how_far_back_an_id_alone_reaches_is_described(described: dict[str, Any]):
    schemas = described["components"]["schemas"]
    for request in ("ScoreRequest", "RetractRequest", "PreferenceRequest"):
        for field in ("completion_id", "comparison_id"):
            told = schemas[request]["properties"][field]["description"]
            assert "only the last 8000 answers are found" in told
            assert told.endswith("send the receipt of older ones.")


def test_what_is_answered_is_as_described_to_the_last_field(gateway_to_try: Gateway):
    """Schemathesis checks whole answers; these are the events of streams, and the errors in their midst."""
    for more in ({}, {"n": 2, "logprobs": True}, {"stream_options": {"include_usage": True}}, {"n": 2, "compare": True}):
        reply = gateway_to_try.http.post(CHAT, headers=gateway_to_try.bearer, json=question() | {"stream": True} | more)
        events = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
        assert events.pop() == "[DONE]"
        chunks = [ChatCompletionChunk.model_validate_json(event) for event in events]
        assert chunks[-1].plaudit is not None
        assert (chunks[-1].usage is not None) == ("stream_options" in more)
    reply = gateway_to_try.http.post(CHAT, headers=gateway_to_try.bearer, json=question("break now") | {"stream": True})
    *_, last = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
    assert ErrorBody.model_validate_json(last).error.code == "engine_unavailable"


def _labeling(running: Gateway) -> dict[str, str]:
    """An annotator's key, and a task of theirs."""
    bearer = f"Bearer {running.keys.create('default', 'annotator')[0]}"
    streams = Streams(running.keys)
    stream = streams.create("default", "work", StreamPlan(kind="rating"))
    until(lambda: streams.draw(stream, running.log) or streams.items(stream.id))
    task = running.http.get("/v1/label/next?stream=work", headers={"authorization": bearer})
    return {"PLAUDIT_ANNOTATOR": bearer, "PLAUDIT_TASK": task.json()["id"]}


@pytest.mark.timeout(200)
def test_schemathesis_finds_no_server_error_and_nothing_undescribed(gateway_to_try: Gateway, tmp_path: Path):
    """All of its checks, on good and bad data, and on chains of requests; always the same data."""
    receipts = {
        "single": gateway_to_try.chat()["plaudit"]["receipt"],
        "pair": gateway_to_try.chat(n=2, compare=True)["plaudit"]["receipt"],
    }
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parent),
        "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
        "PLAUDIT_RECEIPTS": json.dumps(receipts),
        "PLAUDIT_BEARER": gateway_to_try.bearer["authorization"],
        **_labeling(gateway_to_try),
    }
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", gateway_to_try.url + "/openapi.json"),
        *("--max-examples", "120", "--generation-deterministic", "--request-timeout", "10", "--no-color"),
    ]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=180, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 selected / 10 total" in done.stdout
    assert any(fact.task for fact in gateway_to_try.facts() if isinstance(fact, FeedbackSet)), "an annotator answered a task"


def test_a_number_that_the_engine_cannot_be_sent_is_refused(gateway_to_try: Gateway):
    tool = {"type": "function", "function": {"name": "add", "parameters": {"maximum": 10**30}}}
    reply = gateway_to_try.http.post(CHAT, headers=gateway_to_try.bearer, json=question() | {"tools": [tool]})
    assert error_of(reply, 400)["param"] == "tools"


def test_a_header_that_is_not_right_is_refused_also_where_the_body_goes_before_it(gateway_to_try: Gateway):
    headers = gateway_to_try.bearer | {"x-plaudit-conversation": "c" * 201}
    reply = gateway_to_try.http.post(CHAT, headers=headers, json=question() | {"conversation": "c"})
    assert error_of(reply, 400)["param"] == "x-plaudit-conversation"
