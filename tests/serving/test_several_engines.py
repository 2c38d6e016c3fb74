"""Requests over engines that die, come back and get busy: real gateway, real sockets, small models."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from chat_upstream import BASE, ChatUpstream, word_of
from engine_twin import EngineTwin
from gateway_parts import Gateway, error_of, gateway, question, until

from serving.engine import EngineUnavailable
from serving.keys import KeyLimits
from serving.replica import Replica
from serving.routing import SLACK, Router


def in_background(work: Any, *args: Any) -> Future[Any]:
    return ThreadPoolExecutor(1).submit(work, *args)


def post(served: Gateway, text: str = "hello", **more: Any) -> Any:
    return served.http.post("/v1/chat/completions", headers=served.bearer, json=question(text) | more)


def test_when_an_engine_dies_its_requests_are_answered_by_the_other(tmp_path: Path):
    with ChatUpstream() as staying, ChatUpstream() as dying, gateway(tmp_path, staying, dying) as served:
        until(lambda: "plaudit_engine_ready 2.0" in served.http.get("/metrics").text)
        conversations = [f"c{number}" for number in range(8)]
        for conversation in conversations:
            assert post(served, conversation=conversation).status_code == 200
        assert staying.chats()
        assert dying.chats()
        dying.stop()
        replies = [post(served, conversation=conversation) for conversation in conversations]
        assert [reply.status_code for reply in replies] == [200] * 8


def test_a_request_waits_for_an_engine_that_is_being_restarted(tmp_path: Path, free_port: int):
    with ChatUpstream(free_port) as before, gateway(tmp_path, before) as served:
        assert post(served).status_code == 200
        before.stop()
        plain, streamed = in_background(post, served), in_background(lambda: post(served, stream=True).text)
        until(lambda: served.http.get("/readyz").json()["reasons"] == ["no engine answers: nobody listens there"])
        assert not plain.done()
        with ChatUpstream(free_port):
            assert plain.result(20).json()["choices"][0]["message"]["content"] == word_of(BASE)
            assert streamed.result(20).rstrip().endswith("data: [DONE]")


def test_an_engine_that_breaks_connections_off_while_it_dies_is_given_time_to_be_gone(tmp_path: Path):
    with ChatUpstream() as engine, gateway(tmp_path, engine) as served:
        engine.dying_until = time.monotonic() + 0.7
        reply = post(served)
        assert (reply.status_code, time.monotonic() > engine.dying_until) == (200, True)
        assert len(engine.chats()) == 4  # at once, at once again, and after two pauses


def test_an_engine_that_wants_another_key_is_named_as_such(tmp_path: Path):
    with ChatUpstream() as engine:
        engine.wants_key = True
        with gateway(tmp_path, engine, ready=False) as served:
            until(lambda: served.http.get("/readyz").json()["reasons"] == ["no engine answers: answers 401"])


def test_a_request_does_not_wait_longer_than_it_may(tmp_path: Path, free_port: int):
    with ChatUpstream(free_port) as engine, gateway(tmp_path, engine, limits={"engine_wait_s": 0.2}) as served:
        engine.stop()
        error = error_of(post(served), 503)
        assert error["code"] == "engine_unavailable"


def test_an_engine_that_fails_is_not_the_clients_business_while_there_is_another(tmp_path: Path):
    with ChatUpstream() as good, ChatUpstream() as failing, gateway(tmp_path, good, failing) as served:
        until(lambda: "plaudit_engine_ready 2.0" in served.http.get("/metrics").text)
        failing.fails = True
        replies = [post(served, conversation=f"c{number}") for number in range(8)]
        assert [reply.status_code for reply in replies] == [200] * 8


def test_a_request_that_fails_on_the_only_engine_fails_at_once(tmp_path: Path):
    with ChatUpstream() as engine, gateway(tmp_path, engine) as served:
        assert error_of(post(served, "fail"), 502)["code"] == "engine_error"
        assert len(engine.chats()) == 1


def test_a_key_pays_for_what_it_hangs_up_on(tmp_path: Path):
    with ChatUpstream() as engine, gateway(tmp_path, engine) as served:
        secret, _ = served.keys.create("default", "app", "tests", limits=KeyLimits(tokens_per_min=5))
        headers = {"authorization": f"Bearer {secret}"}
        body = question("slowly " + "many words to be paid for" * 4) | {"stream": True}
        with served.http.stream("POST", "/v1/chat/completions", headers=headers, json=body) as reply:
            assert next(reply.iter_lines())
        until(lambda: engine.aborted == 1)
        until(lambda: served.http.post("/v1/chat/completions", headers=headers, json=question()).status_code == 429)


def test_a_key_pays_for_a_prompt_that_it_does_not_wait_for(tmp_path: Path):
    with ChatUpstream() as engine, gateway(tmp_path, engine) as served:
        secret, _ = served.keys.create("default", "app", "tests", limits=KeyLimits(tokens_per_min=20))
        headers = {"authorization": f"Bearer {secret}"}
        with pytest.raises(httpx.ReadTimeout):
            served.http.post("/v1/chat/completions", headers=headers, json=question("late " + "word " * 20), timeout=0.5)
        until(lambda: engine.aborted == 1)
        until(lambda: served.http.post("/v1/chat/completions", headers=headers, json=question()).status_code == 429)


def test_an_answer_that_has_begun_is_not_begun_again_but_ends_with_an_error(tmp_path: Path):
    with ChatUpstream() as first, ChatUpstream() as second, gateway(tmp_path, first, second) as served:
        reply = post(served, "break off", stream=True)
        assert reply.status_code == 200
        *chunks, last = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
        assert chunks[0]["choices"]
        assert last["error"]["code"] == "engine_unavailable"
        assert "[DONE]" not in reply.text
        assert len(first.chats()) + len(second.chats()) == 1
        outcomes = until(lambda: [answer.outcome for answer in served.completions_of("break off")])
        assert outcomes == ["error"]


class TestRouter:
    """Which engine gets a request."""

    def replicas(self, count: int) -> list[Replica]:
        made = [Replica(EngineTwin(), 5) for _ in range(count)]
        for replica in made:
            replica.awake = replica.ready = True
            replica.adapters = {"a"}
        return made

    def test_a_conversation_stays_with_its_engine_until_that_is_much_busier(self):
        router = Router(self.replicas(3))
        home = router.pick("a", "c1")
        home.outstanding = SLACK
        assert router.pick("a", "c1") is home
        home.outstanding = SLACK + 1
        assert router.pick("a", "c1") is not home

    def test_conversations_are_spread(self):
        router = Router(self.replicas(3))
        assert {id(router.pick("a", f"c{number}")) for number in range(60)} == set(map(id, router.replicas))

    def test_conversations_with_like_names_are_spread_as_well(self):
        class Named(EngineTwin):
            def __init__(self, url: str) -> None:
                super().__init__()
                self.url = url

            def __repr__(self) -> str:
                return f"VllmEngine({self.url!r})"

        for port in range(40000, 40040):
            replicas = self.replicas(2)
            for offset, replica in enumerate(replicas):
                replica.engine = Named(f"http://127.0.0.1:{port + offset}")
            homes = [Router(replicas).pick("a", f"c{number}") for number in range(64)]
            assert 10 < homes.count(replicas[0]) < 54

    def test_a_failing_engine_is_avoided_while_there_is_another(self):
        first, second = replicas = self.replicas(2)
        router = Router(replicas)
        assert {router.pick("a", f"c{number}", {first}) for number in range(20)} == {second}
        assert router.pick("a", "c", {first, second}) in replicas

    def test_a_busy_house_sends_who_comes_to_the_least_busy(self):
        replicas = self.replicas(3)
        router = Router(replicas)
        for replica, busy in zip(replicas, (9, 20, 30), strict=True):
            replica.outstanding = busy
        assert all(router.pick("a", f"c{number}") is replicas[0] for number in range(20))

    def test_only_engines_that_are_ready_and_have_the_adapter_are_asked(self):
        first, second, third = replicas = self.replicas(3)
        first.ready = False
        second.adapters = set()
        assert {Router(replicas).pick("a", f"c{number}") for number in range(20)} == {third}
        third.ready = False
        with pytest.raises(EngineUnavailable):
            Router(replicas).pick("a", "c")

    async def test_who_waits_is_woken_by_a_change_and_gives_up_at_the_deadline(self):
        (replica,) = replicas = self.replicas(1)
        router, now = Router(replicas), asyncio.get_running_loop().time
        replica.ready = False
        with pytest.raises(EngineUnavailable):
            await router.until(lambda: router.pick("a", "c"), now() + 0.01)
        waiting = asyncio.create_task(router.until(lambda: router.pick("a", "c"), now() + 30))
        await asyncio.sleep(0)
        replica.ready = True
        router.changed()
        assert await waiting is replica
