"""`VllmEngine` against a server on a Unix socket that answers as vLLM does, fails as it does, or is deaf."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from serving.engine import EngineAnswerInvalid, EngineError, EngineTimeout, EngineUnavailable, VllmEngine

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
QUESTION: dict[str, Any] = {"model": "base", "messages": [{"role": "user", "content": "hi"}]}


class Upstream:
    """Answers every request with ``handler``; keeps (path, body) of each."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.handler: Handler | None = None
        self.asked: list[tuple[str, Any]] = []
        self.aborted = asyncio.Event()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.asked.append((request.path, json.loads(raw) if raw else None))
        assert self.handler is not None
        try:
            return await self.handler(request)
        except (asyncio.CancelledError, ConnectionResetError):
            self.aborted.set()
            raise


@pytest_asyncio.fixture
async def upstream(tmp_path: Path) -> AsyncIterator[Upstream]:
    server = Upstream(f"unix:{tmp_path}/engine.sock")
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "engine.sock")).start()
    yield server
    await runner.cleanup()


@pytest_asyncio.fixture
async def engine(upstream: Upstream) -> AsyncIterator[VllmEngine]:
    engine = VllmEngine(upstream.url, request_timeout_s=5)
    yield engine
    await engine.close()


def sends(*lines: str, then: Callable[[web.Request], Awaitable[None]] | None = None) -> Handler:
    """A handler that streams ``lines``, each as it stands, and then does ``then``."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for line in lines:
            await response.write(line.encode())
        if then is not None:
            await then(request)
        return response

    return handler


def sends_json(text: str) -> Handler:
    """A handler that answers with a text as JSON, whatever it is."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(text=text, content_type="application/json")

    return handler


def says(status: int, body: Any) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status)

    return handler


async def deaf(request: web.Request) -> Any:
    await asyncio.Event().wait()


async def hangs_up(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.close()


async def read_all(stream: AsyncIterator[dict[str, Any]], into: list[dict[str, Any]]) -> None:
    async for items in stream:
        into.extend(items)


def chunk(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


async def test_a_stream_is_its_parsed_chunks_up_to_done(upstream, engine):
    usage = {"choices": [], "usage": {"prompt_tokens": 3}}
    head, tail = json.dumps(chunk("a")), json.dumps(chunk("b"))
    upstream.handler = sends(
        f"data: {head}\n\n: a comment\n\ndata: {tail[:9]}", f"{tail[9:]}\n\ndata:{json.dumps(usage)}\r\n\r\n", "data: [DONE]\n\n"
    )
    assert [c async for chunks in engine.stream(QUESTION) for c in chunks] == [chunk("a"), chunk("b"), usage]
    assert upstream.asked == [("/v1/chat/completions", QUESTION | {"stream": True})]


async def test_closing_a_stream_hangs_up_on_the_engine_so_that_it_stops_generating(upstream, engine):
    upstream.handler = sends(f"data: {json.dumps(chunk('a'))}\n\n", then=deaf)
    stream = engine.stream(QUESTION)
    assert await anext(stream) == [chunk("a")]
    assert not upstream.aborted.is_set()
    await stream.aclose()
    await asyncio.wait_for(upstream.aborted.wait(), 5)


async def test_an_error_in_mid_stream_is_raised_with_its_own_status_and_message(upstream, engine):
    error = {"error": {"message": "EngineCore died", "type": "InternalServerError", "param": None, "code": 507}}
    upstream.handler = sends(f"data: {json.dumps(chunk('a'))}\n\n", f"data: {json.dumps(error)}\n\n", "data: [DONE]\n\n")
    seen: list[dict[str, Any]] = []
    with pytest.raises(EngineError, match="EngineCore died") as raised:
        await read_all(engine.stream(QUESTION), into=seen)
    assert seen == [chunk("a")]
    assert (raised.value.status, raised.value.code) == (507, "InternalServerError")


@pytest.mark.parametrize("end", [hangs_up, None])
async def test_a_stream_that_ends_before_done_is_an_engine_that_is_away(upstream, engine, end):
    upstream.handler = sends(f"data: {json.dumps(chunk('a'))}\n\n", then=end)
    with pytest.raises(EngineUnavailable):
        await read_all(engine.stream(QUESTION), into=[])


async def test_a_chunk_that_is_no_json_is_named(upstream, engine):
    upstream.handler = sends("data: <html>\n\n")
    with pytest.raises(EngineAnswerInvalid, match="<html>"):
        await anext(engine.stream(QUESTION))


@pytest.mark.parametrize("handler", [deaf, sends(f"data: {json.dumps(chunk('a'))}\n\n", then=deaf)])
async def test_no_end_within_the_deadline_is_a_timeout(upstream, handler):
    upstream.handler = handler
    engine = VllmEngine(upstream.url, request_timeout_s=0.2)
    with pytest.raises(EngineTimeout) as raised:
        await read_all(engine.stream(QUESTION), into=[])
    with pytest.raises(EngineTimeout):
        await engine.complete(QUESTION)
    await engine.close()
    assert raised.value.status == 504


async def test_nobody_at_the_socket_is_an_engine_that_is_away(tmp_path):
    engine = VllmEngine(f"unix:{tmp_path}/nobody.sock")
    with pytest.raises(EngineUnavailable) as raised:
        await engine.complete(QUESTION)
    assert raised.value.status == 503
    assert not await engine.answers("base", 1)
    await engine.close()


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_refused_request_keeps_status_and_param(upstream, engine, streamed):
    error = {"message": "too long", "type": "BadRequestError", "param": "messages", "code": 400}
    upstream.handler = says(400, {"error": error})
    with pytest.raises(EngineError, match="too long") as raised:
        await (anext(engine.stream(QUESTION)) if streamed else engine.complete(QUESTION))
    refused = raised.value
    assert (refused.status, refused.code, refused.param) == (400, "BadRequestError", "messages")


@pytest.mark.parametrize("body", [{"detail": "Not Found"}, ["x"], {"error": "plain"}])
async def test_a_refusal_in_another_shape_keeps_its_status(upstream, engine, body):
    upstream.handler = says(404, body)
    with pytest.raises(EngineError, match="404") as raised:
        await engine.complete(QUESTION)
    assert raised.value.status == 404


async def test_adapters_are_loaded_unloaded_and_listed_without_the_base(upstream, engine):
    async def plain(request: web.Request) -> web.StreamResponse:
        return web.Response(text="Success: LoRA adapter 'a1' added successfully.")

    upstream.handler = plain
    await engine.load_adapter("a1", "/adapters/a1")
    await engine.unload_adapter("a1")
    upstream.handler = says(200, {"object": "list", "data": [{"id": "base"}, {"id": "a1"}, {"id": "a2"}]})
    assert await engine.loaded() == {"a1", "a2"}
    assert upstream.asked == [
        ("/v1/load_lora_adapter", {"lora_name": "a1", "lora_path": "/adapters/a1"}),
        ("/v1/unload_lora_adapter", {"lora_name": "a1"}),
        ("/v1/models", None),
    ]
    upstream.handler = says(200, {"data": [{"name": "a1"}]})
    with pytest.raises(EngineAnswerInvalid):
        await engine.loaded()


async def test_a_deaf_or_failing_engine_does_not_answer_a_probe(upstream, engine):
    upstream.handler = deaf
    assert not await engine.answers("base", 0.1)
    upstream.handler = says(500, {"error": {"message": "dead"}})
    assert not await engine.answers("base", 5)
    upstream.handler = says(200, {"choices": []})
    assert not await engine.answers("base", 5)
    upstream.handler = says(200, {"choices": [{"message": {"content": "y"}}]})
    assert await engine.answers("base", 5)
    assert upstream.asked[-1][1]["max_tokens"] == 1


async def test_a_probe_gives_the_likeliest_first_tokens_and_their_logprobs(upstream, engine):
    likeliest = [{"token": "a", "bytes": [97], "logprob": -0.5}, {"token": "\ufffd", "bytes": [195], "logprob": -2}]
    upstream.handler = says(200, {"choices": [{"logprobs": {"content": [{"token": "a", "top_logprobs": likeliest}]}}]})
    assert await engine.probe("a1", QUESTION["messages"]) == {b"a": -0.5, b"\xc3": -2.0}
    asked = upstream.asked[-1][1]
    assert (asked["model"], asked["temperature"], asked["max_tokens"], asked["top_logprobs"]) == ("a1", 0, 1, 20)
    upstream.handler = sends_json('{"choices": [{"logprobs": {"content": [{"top_logprobs": [{"logprob": NaN}]}]}}]}')
    with pytest.raises(EngineAnswerInvalid, match="not JSON"):
        await engine.probe("a1", QUESTION["messages"])
    upstream.handler = says(200, {"choices": []})
    with pytest.raises(EngineAnswerInvalid, match="no logprobs"):
        await engine.probe("a1", QUESTION["messages"])


async def test_the_first_model_of_another_server_is_its_base(upstream, engine):
    upstream.handler = says(200, {"data": [{"id": "gpt-4o", "owned_by": "openai"}, {"id": "gpt-4o-mini"}]})
    assert await engine.loaded() == {"gpt-4o-mini"}
    assert (engine.base_name, engine.shares_prefixes) == ("gpt-4o", False)
    upstream.handler = says(404, {"detail": "Not Found"})  # one that lists none
    assert await engine.loaded() == set()
    assert engine.base_name == "base"


async def test_a_server_that_wants_a_key_is_sent_it(upstream):
    engine = VllmEngine(upstream.url, api_key="sk-theirs")
    keys: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        keys.append(request.headers["authorization"])
        return web.json_response({"choices": []})

    upstream.handler = handler
    await engine.complete(QUESTION)
    await engine.close()
    assert keys == ["Bearer sk-theirs"]


async def test_where_the_base_has_another_name_requests_for_it_bear_that_name(upstream, engine):
    upstream.handler = says(200, {"choices": []})
    await engine.complete(QUESTION)
    engine.base_name = "stand-in"
    await engine.complete(QUESTION)
    await engine.complete(QUESTION | {"model": "a1"})
    upstream.handler = sends("data: [DONE]\n\n")
    assert [c async for c in engine.stream(QUESTION)] == []
    assert [body["model"] for _, body in upstream.asked] == ["base", "stand-in", "a1", "stand-in"]
    assert QUESTION["model"] == "base"


async def test_a_probe_told_to_stop_as_its_answer_comes_stops():
    answer = asyncio.get_running_loop().create_future()

    class Answering(VllmEngine):
        async def complete(self, body):
            return await answer

    probing = asyncio.create_task(Answering("http://nowhere").answers("base", 5))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    answer.set_result({"choices": [{}]})
    probing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probing
