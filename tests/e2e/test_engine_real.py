"""Gateway, controller and the real vLLM: mixed batches, adapters that are refused, and an engine that dies or goes deaf."""

from __future__ import annotations

import asyncio
import signal
import threading
from pathlib import Path

import httpx
import pytest
from lora_by_hand import write_adapter
from stack import ENGINE_WAIT_S, NO_END, Stack, until

from ops.models import prepared
from serving.engine import VllmEngine

pytestmark = pytest.mark.timeout(480)

QUESTIONS = [f"What is {a} plus {b}?" for a in range(2, 5) for b in (3, 6)]
RESTART_S = ENGINE_WAIT_S + 10.0
"""What an engine may take to come back, on a machine that does other things beside."""


def test_the_base_beside_adapters_in_one_batch_answers_as_it_does_alone(stack: Stack, tmp_path: Path):
    if stack.champion() != "base":
        pytest.fail("this test comes before those that promote an adapter")
    alone = [stack.chat(question, logit_bias=NO_END, max_tokens=40)[0] for question in QUESTIONS]
    # More adapters than the engine has slots, so that its last slot is taken whatever the base itself uses.
    names = [f"big-{seed}" for seed in range(stack.settings.engine.max_loras + 1)]
    paths = [
        write_adapter(tmp_path / name, Path(prepared(stack.settings).path), seed=seed, scale=3.0)
        for seed, name in enumerate(names)
    ]

    async def adapters_beside() -> tuple[list[str], list[str]]:
        engine = VllmEngine(stack.settings.engines[0])
        try:
            for name, path in zip(names, paths, strict=True):
                await engine.load_adapter(name, str(path))
                await engine.answers(name, 30)
            message = {"role": "user", "content": QUESTIONS[0]}
            body = {"messages": [message], "temperature": 0, "ignore_eos": True, "max_tokens": 300}
            streams = [asyncio.create_task(_read(engine, body | {"model": name})) for name in names[-3:] * 2]
            beside = await asyncio.to_thread(
                lambda: [text for text, _ in stack.pool.map(lambda q: stack.chat(q, logit_bias=NO_END, max_tokens=40), QUESTIONS)]
            )
            assert not all(stream.done() for stream in streams), "the adapters had ended before the base was asked"
            adapted = await asyncio.gather(*streams)
            for name in names:
                await engine.unload_adapter(name)
            return beside, adapted
        finally:
            await engine.close()

    beside, adapted = asyncio.run(adapters_beside())
    assert beside == alone
    assert len(set(adapted)) == 3
    assert not any(text.startswith(alone[0][:20]) for text in adapted)


async def _read(engine: VllmEngine, body: dict[str, object]) -> str:
    chunks = [chunk async for several in engine.stream(body) for chunk in several]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])


def test_seeds_in_many_requests_at_once_are_kept_and_do_not_end_the_engine(stack: Stack):
    group = stack.engine_group()
    asked = [(f"{QUESTIONS[n % 6]} {'Please. ' * (3 * n)}", 1 + n % 2) for n in range(16)]
    replies = list(stack.pool.map(lambda one: stack.post(one[0], seed=one[1], temperature=1, max_tokens=24, n=2), asked + asked))
    assert [reply.status_code for reply in replies] == [200] * 32
    said = [[choice["message"]["content"] for choice in reply.json()["choices"]] for reply in replies]
    assert said[:16] == said[16:]
    assert stack.engine_group() == group


def test_an_adapter_of_nan_in_the_registry_is_refused_and_the_champion_serves_on(stack: Stack):
    champion = stack.champion_adapter()
    poisoned = stack.publish(seed=9, fill=float("nan"))
    until(lambda: any(c.rollout_id == f"ro-{poisoned}" for c in stack.changes()), 30, "the controller says something of it")
    assert [c.state for c in stack.changes() if c.rollout_id == f"ro-{poisoned}"] == ["REFUSED"]

    stack.change(state="CANARY", challenger=poisoned, coverage=1.0, rollout_id="ro-by-hand", salt="s")
    until(lambda: stack.refusals(poisoned), 30, "the gateway refuses it")
    served = {stack.adapter_of(stack.chat(QUESTIONS[1], user=f"u{n}", max_tokens=2)[1]) for n in range(6)}
    assert served == {champion}
    assert "NaN" in stack.refusals(poisoned)[0].reason
    assert stack.ready()
    stack.change(state="ROLLED_BACK", challenger=None, champion=champion, coverage=0.0, rollout_id="ro-by-hand")


def test_an_adapter_whose_modules_the_model_has_not_got_is_refused(stack: Stack):
    champion = stack.champion_adapter()
    misnamed = stack.publish(seed=11, prefix="base_model.model.model.blocks")
    stack.change(state="CANARY", challenger=misnamed, coverage=1.0, rollout_id="ro-misnamed", salt="s")
    until(lambda: stack.refusals(misnamed), 30, "the gateway refuses it")
    assert stack.adapter_of(stack.chat(QUESTIONS[1], user="u1", max_tokens=2)[1]) == champion
    assert stack.ready()
    stack.change(state="ROLLED_BACK", challenger=None, champion=champion, coverage=0.0, rollout_id="ro-misnamed")


def test_an_engine_killed_under_load_fails_only_what_had_begun_and_comes_back_with_its_adapters(stack: Stack):
    champion = stack.champion_adapter()
    stop = threading.Event()
    replies: list[httpx.Response] = []

    def ask(number: int) -> None:
        while not stop.is_set():
            replies.append(stack.post(QUESTIONS[number % 6], user=f"u{number}", max_tokens=48))
            stop.wait(0.1)

    clients = [stack.pool.submit(ask, number) for number in range(8)]
    try:
        until(lambda: len(replies) > 16, 60, "load")
        begun = stack.streams(QUESTIONS[:4], logit_bias=NO_END, max_tokens=400)
        until(lambda: all(stream.first.is_set() for stream, _ in begun), 30, "streams run")
        group = stack.signal_engine(signal.SIGKILL)
        for _, ended in begun:
            ended.result(20)
        until(lambda: not stack.ready(), 30, "the gateway says it is not ready")
        why = stack.http.get("/readyz").json()["reasons"]
        stack.restarted(group, RESTART_S)
        back = len(replies)
        until(lambda: len(replies) > back + 16, 60, "load after the restart")
    finally:
        stop.set()
        for client in clients:
            client.result(RESTART_S)
    assert [reason.partition(":")[0] for reason in why] == ["no engine answers"]
    assert all("engine" in stream.error and stream.finish_reason is None for stream, _ in begun)
    assert {reply.status_code for reply in replies} == {200}  # they waited
    _, last = stack.chat(QUESTIONS[0], user="u0", max_tokens=4)
    exposure = stack.completion(last).exposure
    assert (exposure.adapter, exposure.fallback) == (champion, None)


def test_a_deaf_engine_is_restarted_while_a_request_waits_and_has_its_adapters_again(stack: Stack):
    champion = stack.champion_adapter()
    before, _ = stack.chat(QUESTIONS[2], max_tokens=24)
    group = stack.signal_engine(signal.SIGSTOP)
    until(lambda: not stack.ready(), 30, "the gateway notices")
    after, last = stack.chat(QUESTIONS[2], max_tokens=24)
    stack.restarted(group, RESTART_S)
    assert stack.adapter_of(last) == champion
    assert after == before
