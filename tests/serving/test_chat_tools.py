"""Tools, formats, pinned adapters and tenants: what reaches the engine, what comes back, what is written down."""

from __future__ import annotations

import json
from typing import Any

from chat_upstream import ARGUMENTS, ChatUpstream, word_of
from gateway_parts import Gateway, error_of, question, until

from feedback.events import ToolCall

TOOL = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}, "strict": True},
}
CALLED = ToolCall(id="c1", name="add", arguments="".join(ARGUMENTS))


def test_tools_are_passed_on_and_the_call_comes_back_and_is_written_down(served: Gateway, upstream: ChatUpstream):
    answer = served.chat(**question("call"), tools=[TOOL], tool_choice="required", parallel_tool_calls=False)
    (asked,) = upstream.chats()
    assert (asked["tools"], asked["tool_choice"], asked["parallel_tool_calls"]) == ([TOOL], "required", False)
    message = answer["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"][0]["function"] == {"name": "add", "arguments": "".join(ARGUMENTS)}
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert served.completion(answer["id"]).text.tool_calls == (CALLED,)


def test_a_streamed_call_comes_piece_by_piece_and_is_written_down_whole(served: Gateway):
    body = question("call") | {"stream": True, "tools": [TOOL]}
    reply = served.http.post("/v1/chat/completions", headers=served.bearer, json=body)
    chunks = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
    deltas = [delta for chunk in chunks for delta in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert "".join(delta["function"].get("arguments", "") for delta in deltas) == "".join(ARGUMENTS)
    assert served.completion(chunks[0]["id"]).text.tool_calls == (CALLED,)


def test_an_answer_that_is_out_is_not_followed_by_an_error(served: Gateway):
    for _ in range(2):  # over one connection, which a second answer to the first request would have broken
        reply = served.http.post("/v1/chat/completions", headers=served.bearer, json=question("call oddly") | {"tools": [TOOL]})
        assert reply.status_code == 200
        assert reply.json()["choices"][0]["message"]["tool_calls"][0]["id"] == 7


def test_a_conversation_with_tools_reaches_the_engine_as_it_was(served: Gateway, upstream: ChatUpstream):
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "4", "tool_call_id": "c1"},
    ]
    answer = served.chat(messages=messages)
    (asked,) = upstream.chats()
    assert asked["messages"] == messages
    written = served.completion(answer["id"]).text.messages
    assert written[1].tool_calls[0].name == "add"
    assert written[2].tool_call_id == "c1"


def test_a_format_is_passed_on(served: Gateway, upstream: ChatUpstream):
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": True}}
    served.chat(response_format=schema)
    assert upstream.chats()[0]["response_format"] == schema


def test_a_streams_header_has_the_receipt_of_its_last_chunk(served: Gateway):
    reply = served.http.post("/v1/chat/completions", headers=served.bearer, json=question() | {"stream": True})
    last = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")][-1]
    assert reply.headers["x-plaudit-receipt"] == last["plaudit"]["receipt"]
    assert reply.headers["x-request-id"].startswith("req_")


def test_projects_have_prefix_caches_of_their_own(served: Gateway, upstream: ChatUpstream):
    key, _ = served.keys.create("other", "app", "tests")
    for bearer, model in ((served.key, "default"), (key, "other"), (served.key, "default")):
        headers = {"authorization": f"Bearer {bearer}"}
        assert served.http.post("/v1/chat/completions", headers=headers, json=question() | {"model": model}).status_code == 200
    salts = [body["cache_salt"] for body in upstream.chats()]
    assert salts[0] == salts[2] != salts[1]


def operators(served: Gateway) -> dict[str, str]:
    return {"authorization": f"Bearer {served.keys.create('default', 'operator', 'tests')[0]}"}


def test_an_operator_may_pin_an_adapter_which_is_no_evidence(served: Gateway, upstream: ChatUpstream):
    adapter = served.publish(seed=7)
    headers = operators(served)
    reply = served.http.post("/v1/chat/completions", headers=headers, json=question() | {"plaudit_adapter": adapter})
    answer: dict[str, Any] = reply.json()
    assert answer["choices"][0]["message"]["content"] == word_of(adapter)
    exposure = served.completion(answer["id"]).exposure
    assert (exposure.adapter, exposure.rollout_id, exposure.fallback) == (adapter, None, "pinned")
    base = served.http.post("/v1/chat/completions", headers=headers, json=question() | {"plaudit_adapter": "base"}).json()
    assert base["choices"][0]["message"]["content"] == word_of("base")
    until(lambda: adapter in upstream.adapters)


def test_a_pinned_adapter_must_be_one_of_the_project(served: Gateway):
    foreign = served.publish(seed=8, project="other")
    for adapter in (foreign, "default-v999-00000000", "../etc", "nobody"):
        reply = served.http.post(
            "/v1/chat/completions", headers=operators(served), json=question() | {"plaudit_adapter": adapter}
        )
        assert error_of(reply, 404)["code"] == "adapter_not_found"
