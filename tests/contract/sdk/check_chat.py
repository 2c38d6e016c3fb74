"""Chat, plain and streamed, with what applications put into a request."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

import openai
import pytest
from sdk_client import ADD, MODEL, NO_END, NO_SPACE, SUM, Sdk, plain, said, setup, until

ADD_TOOL: dict[str, Any] = {"type": "function", "function": {"name": "add", "parameters": ADD, "strict": True}}
FORCED: dict[str, Any] = {
    "tools": [ADD_TOOL],
    "tool_choice": {"type": "function", "function": {"name": "add"}},
    "logit_bias": NO_SPACE,
    "max_tokens": 100,
}
AS_SUM: dict[str, Any] = {
    "response_format": {"type": "json_schema", "json_schema": {"name": "sum", "strict": True, "schema": ADD}},
    "logit_bias": NO_SPACE,
    "max_tokens": 40,
}


def assert_fits(arguments: str) -> None:
    """A value of the schema `ADD`."""
    value = json.loads(arguments)
    assert set(value) == {"a", "b"}
    assert all(type(number) is int and 0 <= number <= 99 for number in value.values())


def check_the_release_is_the_one_meant():
    assert openai.__version__ == setup()["release"]


def check_a_plain_answer_is_one_of_openais_with_a_receipt(sdk: Sdk):
    answer = sdk.chat(user="ada")
    assert (answer.object, answer.model) == ("chat.completion", MODEL)
    assert answer.id.startswith("chatcmpl-")
    (choice,) = answer.choices
    assert (choice.index, choice.message.role, choice.finish_reason) == (0, "assistant", "stop")
    assert choice.message.content
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.plaudit["completion_id"] == answer.id
    assert len(answer.plaudit["receipt"]) > 100


def check_a_stream_says_what_the_plain_answer_says_and_its_last_chunk_has_the_receipt(sdk: Sdk):
    chunks = sdk.stream(user="ada")
    assert said(chunks) == sdk.text(user="ada")
    assert {(chunk.object, chunk.model, chunk.id) for chunk in chunks} == {("chat.completion.chunk", MODEL, chunks[0].id)}
    assert chunks[0].choices[0].delta.role == "assistant"
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]
    assert ["plaudit" in plain(chunk) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].plaudit["completion_id"] == chunks[0].id
    assert [plain(chunk).get("usage") for chunk in chunks] == [None] * len(chunks)


def check_the_receipt_is_in_a_header_of_plain_answers_and_streams(sdk: Sdk):
    create = sdk.client.chat.completions.with_raw_response.create
    raw = sdk.run(create(model=MODEL, messages=SUM, max_tokens=2))
    assert raw.headers["x-plaudit-receipt"] == raw.parse().plaudit["receipt"]
    stream = sdk.chat(stream=True, max_tokens=2)
    assert stream.response.headers["content-type"].startswith("text/event-stream")
    in_header = stream.response.headers["x-plaudit-receipt"]
    assert sdk.all(stream)[-1].plaudit["receipt"] == in_header


def check_every_request_has_an_id_of_its_own(sdk: Sdk):
    create = sdk.client.chat.completions.with_raw_response.create
    raws = [sdk.run(create(model=MODEL, messages=SUM, max_tokens=1)) for _ in range(2)]
    ids = [raw.headers["x-request-id"] for raw in raws]
    assert ids[0] != ids[1]
    assert all(one.startswith("req_") for one in ids)
    answer = sdk.chat(max_tokens=1)
    assert getattr(answer, "_request_id", "req_ (a release that does not tell)").startswith("req_")


def check_usage_comes_in_a_last_chunk_without_choices_when_asked_for(sdk: Sdk):
    chunks = [plain(chunk) for chunk in sdk.stream(stream_options={"include_usage": True}, max_tokens=3, logit_bias=NO_END)]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 3
    assert chunks[-1]["usage"]["total_tokens"] == chunks[-1]["usage"]["prompt_tokens"] + 3
    assert chunks[-1]["plaudit"]["completion_id"] == chunks[0]["id"]
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in chunks[:-1])


def check_n_answers_have_an_index_and_an_id_each(sdk: Sdk):
    answer = sdk.chat(n=2, temperature=1, max_tokens=4)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert len(set(answer.plaudit["completion_ids"])) == 2
    chunks = sdk.stream(n=2, temperature=1, max_tokens=4)
    finished = [choice.index for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert sorted(finished) == [0, 1]


def check_logprobs_come_for_every_token_with_the_alternatives_asked_for(sdk: Sdk):
    asked = {"logprobs": True, "top_logprobs": 2, "max_tokens": 3, "logit_bias": NO_END}
    whole = plain(sdk.chat(**asked))["choices"][0]["logprobs"]["content"]
    chunks = [plain(chunk) for chunk in sdk.stream(**asked)]
    parts = [c["logprobs"]["content"] for chunk in chunks for c in chunk["choices"] if c.get("logprobs")]
    for tokens in (whole, [token for part in parts for token in part or []]):
        assert len(tokens) == 3
        assert all(token["logprob"] <= 0 and len(token["top_logprobs"]) == 2 for token in tokens)
        assert all(token["top_logprobs"][0]["token"] == token["token"] for token in tokens)  # greedy


@pytest.mark.parametrize("as_list", [False, True])
def check_an_answer_ends_before_a_stop_string(sdk: Sdk, as_list: bool):
    text = sdk.text()
    second = text.split()[1]
    assert sdk.text(stop=[second, "\u0007"] if as_list else second) == text[: text.index(second)]
    assert said(sdk.stream(stop=second)) == text[: text.index(second)]


def check_one_seed_gives_one_answer_and_others_give_others(sdk: Sdk):
    answers = {seed: sdk.text(seed=seed, temperature=1, max_tokens=16, user="ada") for seed in range(5)}
    again = {seed: sdk.text(seed=seed, temperature=1, max_tokens=16, user="ada") for seed in range(5)}
    assert answers == again
    assert len(set(answers.values())) > 1


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def check_an_answer_has_no_more_tokens_than_asked_for(sdk: Sdk, name: str):
    answer = sdk.chat(**{name: 3, "logit_bias": NO_END})
    assert answer.usage.completion_tokens == 3
    assert answer.choices[0].finish_reason == "length"


def check_an_answer_in_a_json_schema_fits_it(sdk: Sdk):
    assert_fits(sdk.text(**AS_SUM))
    assert_fits(said(sdk.stream(**AS_SUM)))


def check_an_answer_as_a_json_object_is_one(sdk: Sdk):
    text = sdk.text(response_format={"type": "json_object"}, logit_bias=NO_SPACE, max_tokens=60)
    assert isinstance(json.loads(text), dict)


def check_a_tool_that_must_be_called_is_called_with_arguments_that_fit(sdk: Sdk):
    (choice,) = plain(sdk.chat(**FORCED))["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert (call["type"], call["function"]["name"]) == ("function", "add")
    assert call["id"]
    assert_fits(call["function"]["arguments"])
    assert choice["finish_reason"] in ("stop", "tool_calls")


def check_a_tools_call_is_streamed_by_index(sdk: Sdk):
    chunks = [plain(chunk) for chunk in sdk.stream(**FORCED)]
    parts = [call for chunk in chunks for choice in chunk["choices"] for call in choice["delta"].get("tool_calls") or ()]
    assert {part["index"] for part in parts} == {0}
    assert [part["id"] for part in parts if part.get("id")] == [parts[0]["id"]]
    assert parts[0]["function"]["name"] == "add"
    assert_fits("".join(part["function"].get("arguments") or "" for part in parts))
    assert len(parts) > 3


def check_any_tool_that_must_be_called_is(sdk: Sdk):
    (choice,) = plain(sdk.chat(**FORCED | {"tool_choice": "required", "parallel_tool_calls": False}))["choices"]
    assert_fits(choice["message"]["tool_calls"][0]["function"]["arguments"])
    assert choice["finish_reason"] == "tool_calls"


def check_tools_that_need_not_be_called_leave_an_ordinary_answer(sdk: Sdk):
    for choice in ("auto", "none"):
        answer = sdk.chat(tools=[ADD_TOOL], tool_choice=choice)
        assert answer.choices[0].message.content
        assert not plain(answer)["choices"][0]["message"].get("tool_calls")


def check_what_a_tool_has_answered_goes_into_the_conversation(sdk: Sdk):
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 3}'}}
    conversation = [
        *SUM,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "5"},
    ]
    assert sdk.text(messages=conversation, tools=[ADD_TOOL])


def check_a_pair_has_two_answers_and_one_id(sdk: Sdk):
    pair = sdk.chat(n=2, extra_body={"compare": True}, user="ada", max_tokens=8)
    assert [choice.index for choice in pair.choices] == [0, 1]
    assert pair.plaudit["comparison_id"].startswith("cmp_")
    assert len(pair.plaudit["completion_ids"]) == 2


def check_a_streamed_pair_comes_both_at_once_by_index(sdk: Sdk):
    chunks = sdk.stream(n=2, extra_body={"compare": True}, user="ada", max_tokens=100, logit_bias=NO_END)
    order = [choice.index for chunk in chunks for choice in chunk.choices if choice.delta.content]
    firsts, lasts = [order.index(i) for i in (0, 1)], [len(order) - 1 - order[::-1].index(i) for i in (0, 1)]
    assert max(firsts) < min(lasts), f"one after the other: {order}"
    assert said(chunks, 0)
    assert said(chunks, 1)
    assert chunks[-1].plaudit["comparison_id"].startswith("cmp_")


def check_a_client_that_hangs_up_stops_the_engine_within_a_second(sdk: Sdk):
    stream = sdk.chat(stream=True, max_tokens=400, logit_bias=NO_END)
    sdk.some(stream, 3)
    assert running_on_engine() >= 1
    sdk.hang_up(stream)
    until(lambda: running_on_engine() == 0, timeout_s=1)


class _UnixConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(setup()["engine_socket"])


def running_on_engine() -> float:
    """Requests that vLLM is at work on, by its own count."""
    connection = _UnixConnection("engine")
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    connection.close()
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith("vllm:num_requests_running{"))


def check_models_are_projects(sdk: Sdk):
    models = sdk.all(sdk.run(sdk.client.models.list()))
    assert [model.id for model in models] == [MODEL]
    model = sdk.run(sdk.client.models.retrieve(MODEL))
    assert (model.id, model.object) == (MODEL, "model")
    assert model.created > 0
