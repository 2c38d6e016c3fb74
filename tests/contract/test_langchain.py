"""LangChain's ``ChatOpenAI``, which many applications have between them and the SDK."""

from __future__ import annotations

from typing import Any

import pytest
from contract_gateway import Held
from langchain_openai import ChatOpenAI

SUM = "What is 2 plus 3?"
NO_SPACE = {"202": -100, "203": -100, "206": -100, "225": -100}
"""White space, of which a tiny model makes any amount between JSON's parts."""


@pytest.fixture
def chat(held: Held) -> ChatOpenAI:
    return model(held)


def model(held: Held, **options: Any) -> ChatOpenAI:
    given = {"max_tokens": 16, "temperature": 0, "max_retries": 0, "timeout": 30}
    return ChatOpenAI(model="default", base_url=held.url + "/v1", api_key=held.gateway.key(), **(given | options))


def test_it_invokes(chat: ChatOpenAI):
    answer = chat.invoke(SUM)
    assert answer.content
    assert answer.response_metadata["finish_reason"] == "stop"
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["total_tokens"] == answer.usage_metadata["input_tokens"] + answer.usage_metadata["output_tokens"]


def test_it_streams_what_it_invokes_with_the_tokens_counted(chat: ChatOpenAI):
    chunks = list(chat.stream(SUM, stream_usage=True))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    invoked = chat.invoke(SUM)
    assert whole.content == invoked.content
    assert whole.usage_metadata is not None
    assert invoked.usage_metadata is not None
    assert whole.usage_metadata["total_tokens"] == invoked.usage_metadata["total_tokens"]


def test_it_batches(chat: ChatOpenAI):
    answers = chat.batch([f"What is {n} plus 3?" for n in range(2, 6)], config={"max_concurrency": 4})
    assert len(answers) == 4
    assert all(answer.content for answer in answers)


async def test_it_does_so_asynchronously(chat: ChatOpenAI):
    assert (await chat.ainvoke(SUM)).content == "".join([chunk.text async for chunk in chat.astream(SUM)])


def test_a_bound_tool_that_must_be_called_is(held: Held):
    parameters = {
        "type": "object",
        "properties": {name: {"type": "integer", "minimum": 0, "maximum": 99} for name in "ab"},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
    add = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": parameters, "strict": True}}
    chat = model(held, max_tokens=100, logit_bias=NO_SPACE)
    (call,) = chat.bind_tools([add], tool_choice="add").invoke(SUM).tool_calls
    assert call["name"] == "add"
    assert set(call["args"]) == {"a", "b"}
