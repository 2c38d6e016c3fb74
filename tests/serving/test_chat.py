"""``POST /v1/chat/completions`` through the stock openai SDK, over a real gateway."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import openai
import pytest
from chat_upstream import ChatUpstream, word_of
from gateway_parts import Gateway, gateway, question, until

from feedback.events import AdapterRefused
from feedback.receipts import Receipts
from ops.secrets import load_secret, subkey

ASK = [{"role": "user", "content": "say one two three"}]


def lines_of(text: str) -> list[str]:
    return [line.removeprefix("data: ") for line in text.split("\n\n") if line]


def test_a_plain_answer_has_openais_form_and_says_how_to_give_feedback(served: Gateway, upstream: ChatUpstream):
    answer = served.openai.chat.completions.create(model="default", messages=ASK, user="ada")
    assert answer.object == "chat.completion"
    assert answer.model == "default"
    assert [(c.index, c.message.role, c.message.content, c.finish_reason) for c in answer.choices] == [
        (0, "assistant", "one two three", "stop")
    ]
    assert answer.usage is not None
    assert answer.usage.to_dict() == {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}
    assert answer.plaudit["completion_id"] == answer.id
    assert answer.plaudit["completion_ids"] == [answer.id]
    assert "comparison_id" not in answer.plaudit


def test_the_receipt_is_in_a_header_too_and_holds_what_was_shown(served: Gateway, upstream: ChatUpstream):
    raw = served.openai.chat.completions.with_raw_response.create(model="default", messages=ASK, user="ada")
    answer = raw.parse()
    assert raw.headers["x-plaudit-receipt"] == answer.plaudit["receipt"]
    assert raw.headers["x-request-id"].startswith("req_")
    receipt = Receipts([subkey(load_secret(served.settings), "receipts")]).open(answer.plaudit["receipt"])
    assert receipt.project == "default"
    assert receipt.target.completion_ids == (answer.id,)
    assert [exposure.adapter for exposure in receipt.exposures] == ["base"]
    assert receipt.user == served.completion(answer.id).user


async def test_the_async_sdk_streams_word_by_word_and_the_last_chunk_says_how_to_give_feedback(
    served: Gateway, upstream: ChatUpstream
):
    async with openai.AsyncOpenAI(base_url=served.url + "/v1", api_key=served.key, max_retries=0) as client:
        stream = await client.chat.completions.create(model="default", messages=ASK, stream=True)
        chunks = [chunk async for chunk in stream]
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "one", " two", " three", ""]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, None, None, "stop"]
    assert {(chunk.model, chunk.id, chunk.object) for chunk in chunks} == {("default", chunks[0].id, "chat.completion.chunk")}
    assert ["plaudit" in chunk.to_dict() for chunk in chunks] == [False, False, False, False, True]
    assert chunks[-1].plaudit["completion_id"] == chunks[0].id
    event = served.completion(chunks[0].id)
    assert (event.text.answer, event.completion_tokens, event.finish_reason, event.outcome) == ("one two three", 3, "stop", "ok")
    assert event.first_token_ms is not None
    assert 0 <= event.first_token_ms <= event.latency_ms


def test_a_stream_with_usage_ends_in_a_chunk_without_choices_and_done(served: Gateway, upstream: ChatUpstream):
    body = question("say a b") | {"stream": True, "stream_options": {"include_usage": True}}
    reply = served.http.post("/v1/chat/completions", headers=served.bearer, json=body)
    assert reply.headers["content-type"].startswith("text/event-stream")
    lines = lines_of(reply.text)
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * 4
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert "receipt" in chunks[-1]["plaudit"]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"


def test_n_answers_are_made_apart_with_seeds_of_their_own_and_the_prompt_counts_once(served: Gateway, upstream: ChatUpstream):
    answer = served.chat(messages=ASK, n=3, seed=7)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert sorted(body["seed"] for body in upstream.chats()) == [7, 8, 9]
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 9, "total_tokens": 13}
    ids = answer["plaudit"]["completion_ids"]
    assert len(set(ids)) == 3
    assert [served.completion(id).position for id in ids] == [0, 1, 2]


def test_a_comparison_has_two_answers_one_id_and_two_events(served: Gateway, upstream: ChatUpstream):
    answer = served.chat(messages=ASK, n=2, compare=True, user="ada")
    about = answer["plaudit"]
    assert about["comparison_id"].startswith("cmp_")
    assert about["completion_id"] == about["completion_ids"][0] == answer["id"]
    events = [served.completion(id) for id in about["completion_ids"]]
    assert [(event.comparison_id, event.position) for event in events] == [
        (about["comparison_id"], 0),
        (about["comparison_id"], 1),
    ]
    assert {body["temperature"] for body in upstream.chats()} == {served.settings.sampling.pair_temperature}


def test_a_streamed_comparison_interleaves_both_answers_by_index(served: Gateway, upstream: ChatUpstream):
    body = question("slowly word") | {"stream": True, "n": 2, "compare": True}
    seen: list[int] = []
    with served.http.stream("POST", "/v1/chat/completions", headers=served.bearer, json=body) as reply:
        lines: list[str] = []
        for line in reply.iter_lines():
            if not line:
                continue
            lines.append(line.removeprefix("data: "))
            if lines[-1] != "[DONE]":
                seen += [choice["index"] for choice in json.loads(lines[-1])["choices"]]
            if set(seen) == {0, 1}:  # both run: neither waits for the other's end
                upstream.go_on.set()
    last = json.loads(lines[-2])
    assert seen.count(0) == seen.count(1) == 3
    assert last["choices"][0]["finish_reason"] == "stop"
    assert sum("plaudit" in line for line in lines) == 1
    assert last["plaudit"]["comparison_id"].startswith("cmp_")
    assert {served.completion(id).outcome for id in last["plaudit"]["completion_ids"]} == {"ok"}


def test_only_allowed_fields_reach_the_engine_and_defaults_fill_in_what_is_not_named(served: Gateway, upstream: ChatUpstream):
    parts = [{"type": "text", "text": "say "}, {"type": "text", "text": "x"}]
    served.chat(messages=[{"role": "user", "content": parts}], top_p=0.5, stop=["\n"], store=True, user="ada")
    (body,) = upstream.chats()
    assert len(body.pop("cache_salt")) == 64
    assert body == {
        "model": "base",
        "messages": [{"role": "user", "content": "say x"}],
        "n": 1,
        "temperature": served.settings.sampling.temperature,
        "max_tokens": served.settings.sampling.max_tokens,
        "top_p": 0.5,
        "stop": ["\n"],
        "stream": False,
    }


def test_logprobs_are_passed_through(served: Gateway, upstream: ChatUpstream):
    answer = served.openai.chat.completions.create(model="default", messages=ASK, logprobs=True)
    assert answer.choices[0].logprobs is not None
    assert [token.token for token in answer.choices[0].logprobs.content or ()] == ["one", "two", "three"]


def test_a_user_is_one_unit_in_every_conversation_and_is_stored_as_a_hash_only(served: Gateway, upstream: ChatUpstream):
    first, second, third = (
        served.completion(served.chat(user=user, conversation=conversation)["id"])
        for user, conversation in (("ada@example.org", "c1"), ("ada@example.org", "c2"), ("bob", "c1"))
    )
    assert first.user == second.user != third.user
    assert (first.conversation, second.conversation) == ("c1", "c2")
    assert all("ada@example.org" not in event.model_dump_json() for event in served.events("completions"))


def test_without_a_user_the_conversation_is_the_unit_and_the_first_message_stands_for_one_without_an_id(
    served: Gateway, upstream: ChatUpstream
):
    turns = [{"role": "user", "content": "say hi"}, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "say ho"}]
    first = served.completion(served.chat(messages=turns[:1])["id"])
    second = served.completion(served.chat(messages=turns)["id"])
    assert (first.conversation, first.user) == (second.conversation, second.user)
    headers = served.bearer | {"x-plaudit-conversation": "mine"}
    reply = served.http.post("/v1/chat/completions", headers=headers, json=question("say hi"))
    named = served.completion(reply.json()["id"])
    assert named.conversation == "mine"
    assert named.user != first.user


def test_a_client_that_hangs_up_stops_the_generation_and_leaves_an_aborted_event(served: Gateway, upstream: ChatUpstream):
    for stream in (True, False):
        text = f"slowly part {stream}"
        body = question(text) | {"stream": stream}
        if stream:
            with served.http.stream("POST", "/v1/chat/completions", headers=served.bearer, json=body) as reply:
                next(reply.iter_lines())
        else:
            with pytest.raises(httpx.ReadTimeout):
                served.http.post("/v1/chat/completions", headers=served.bearer, json=body, timeout=0.2)
        (event,) = until(lambda text=text: served.completions_of(text))
        assert event.outcome == "aborted"
        until(lambda: upstream.running == 0)
    assert upstream.aborted == 2


def test_an_engine_that_breaks_off_in_mid_stream_ends_it_with_an_error_of_openais(served: Gateway, upstream: ChatUpstream):
    stream = served.openai.chat.completions.create(model="default", messages=question("break x")["messages"], stream=True)
    chunks = []
    with pytest.raises(openai.APIError, match="not available now"):
        chunks += list(stream)
    (event,) = until(lambda: served.completions_of("break x"))
    assert event.outcome == "error"


@pytest.mark.parametrize("stream", [False, True])
def test_the_engines_failures_become_errors_that_tell_nothing_of_it(served: Gateway, upstream: ChatUpstream, stream: bool):
    with pytest.raises(openai.InternalServerError) as failure:
        served.openai.chat.completions.create(model="default", messages=question("fail")["messages"], stream=stream)
    assert failure.value.status_code == 502
    assert "secret" not in str(failure.value)
    assert "base" not in str(failure.value)


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_beyond_the_context_is_the_clients_error_and_nobodys_failed_answer(
    served: Gateway, upstream: ChatUpstream, stream: bool
):
    text = f"refuse {stream}"
    with pytest.raises(openai.BadRequestError) as refusal:
        served.openai.chat.completions.create(model="default", messages=question(text)["messages"], stream=stream)
    assert refusal.value.code == "context_length_exceeded"
    served.completion(served.chat()["id"])  # what was put into the queue before is in the log by now
    assert served.completions_of(text) == []


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_beyond_the_deadline_is_a_504_and_its_event_says_timeout(tmp_path: Path, upstream: ChatUpstream, stream: bool):
    with gateway(tmp_path, upstream, limits={"request_timeout_s": 0.3}) as late:
        reply = late.http.post("/v1/chat/completions", headers=late.bearer, json=question("late") | {"stream": stream})
        assert reply.status_code == 504
        assert reply.json()["error"]["code"] == "timeout"
        (event,) = until(lambda: late.completions_of("late"))
        assert event.outcome == "timeout"
        until(lambda: upstream.running == 0)


def test_models_are_the_callers_project_and_no_adapter(served: Gateway):
    assert [model.id for model in served.openai.models.list()] == ["default"]
    assert served.openai.models.retrieve("default").owned_by == "plaudit"
    with pytest.raises(openai.NotFoundError):
        served.openai.models.retrieve("base")


def test_duels_put_champion_and_challenger_on_the_sides_the_coin_says_and_no_client_sees_which(
    tmp_path: Path, upstream: ChatUpstream
):
    with gateway(tmp_path, upstream) as dueling:
        challenger = dueling.publish(seed=1)
        dueling.deploy(challenger=challenger, coverage=1.0)
        until(lambda: word_of(challenger) in {dueling.chat(user=f"u{i}")["choices"][0]["message"]["content"] for i in range(8)})
        for toss, order in ((0.2, ["base", challenger]), (0.7, [challenger, "base"])):
            dueling.coins.append(toss)
            answer = dueling.chat(n=2, compare=True, user="ada")
            assert [choice["message"]["content"] for choice in answer["choices"]] == [word_of(name) for name in order]
            assert challenger not in json.dumps(answer)
            events = [dueling.completion(id) for id in answer["plaudit"]["completion_ids"]]
            assert [event.exposure.adapter for event in events] == order
            assert [event.exposure.coin for event in events] == [toss, toss]
            assert {event.exposure.arm for event in events} == {"control", "challenger"}
            assert {event.exposure.propensity for event in events} == {0.5}
            assert {event.exposure.rollout_id for event in events} == {"ro-test"}


def test_a_user_stays_with_the_adapter_of_their_arm(tmp_path: Path, upstream: ChatUpstream):
    with gateway(tmp_path, upstream) as sticky:
        challenger = sticky.publish(seed=2)
        sticky.deploy(challenger=challenger, coverage=1.0)
        until(lambda: sticky.completion(sticky.chat(user="u0")["id"]).exposure.rollout_id == "ro-test")
        first = [sticky.completion(sticky.chat(user=f"u{i}")["id"]).exposure for i in range(16)]
        assert {(e.assigned, e.arm, e.adapter, e.fallback) for e in first} == {
            ("control", "control", "base", None),
            ("challenger", "challenger", challenger, None),
        }
        again = [sticky.chat(user=f"u{i}", conversation=f"another {i}")["choices"][0]["message"]["content"] for i in range(16)]
        assert again == [word_of(exposure.adapter) for exposure in first]


def test_a_challenger_that_cannot_be_served_changes_nobodys_answer(tmp_path: Path, upstream: ChatUpstream):
    with gateway(tmp_path, upstream) as steady:
        steady.deploy(challenger="default-v9-00000000", coverage=1.0)
        until(lambda: [event for event in steady.events("control") if isinstance(event.data, AdapterRefused)])
        answers = [steady.chat(user=f"u{i}", n=2, compare=True)["id"] for i in range(4)]
        assert {steady.completion(id).exposure.adapter for id in answers} == {"base"}


def test_what_openai_takes_is_taken(served: Gateway):
    nothing = {"n": None, "stream": None, "stop": None, "tools": None, "functions": None, "web_search_options": None, "user": ""}
    answer = served.openai.chat.completions.create(
        model="default", messages=[{"role": "user", "content": "say x"}], extra_body=nothing
    )
    again = answer.choices[0].message.model_dump()
    told = [{"role": "user", "content": "hi"}, again | {"annotations": []}, {"role": "user", "content": "say y"}]
    stream = served.openai.chat.completions.create(
        model="default", messages=told, stream=True, stream_options={"include_usage": True, "include_obfuscation": False}
    )
    assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == "y"
