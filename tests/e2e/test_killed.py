"""Trainer and gateway killed in the midst of their work, beside the real engine: nothing is lost, nothing counts twice."""

from __future__ import annotations

import asyncio
import json
import time

import httpx
import pytest
from stack import VOTES, Stack, until

from feedback.events import FeedbackSet
from feedback.log import TopicReader
from ops.crowd import Crowd
from ops.domain.people import crowd
from serving.engine import VllmEngine
from trainer.rollouts import NAME_PREFIX

pytestmark = pytest.mark.timeout(480)


def test_a_trainer_killed_in_mid_cycle_begins_it_again_and_counts_no_vote_twice(stack: Stack):
    _people_vote(stack, VOTES)
    until(lambda: _metric(stack, "plaudit_ppo_entropy_nats") > 0, 120, "reinforcement learning is under way")
    assert _cycles(stack) == []
    killed = stack.kill("train")
    until(lambda: stack.replaced("train", killed), 10, "the trainer is started again")
    (record,) = until(lambda: _cycles(stack), 240, "the cycle is done after all")

    assert (record["cycle"], record["votes"], record["new_votes"]) == (1, VOTES, VOTES)
    assert _metric(stack, "plaudit_joined_votes") == VOTES
    learnt = [m for m in stack.registry.list("default") if m.training]
    assert [m.training["new_votes"] for m in learnt] == [VOTES]
    assert list((stack.settings.trainer_dir / "rollouts").iterdir()) == []
    assert not [name for name in _held_by_engine(stack) if name.startswith(NAME_PREFIX)]
    time.sleep(2)  # ten looks at the log: what has been learnt from starts no second cycle
    assert len(_cycles(stack)) == 1


def test_a_gateway_killed_right_after_a_201_has_lost_nothing_and_serves_on_as_before(stack: Stack):
    stack.champion_adapter()
    answers = [stack.post("What is 2 plus 3?", user=f"k{n}", max_tokens=4).json() for n in range(4)]
    bodies = [{"type": "rating", "value": 1, "receipt": answer["plaudit"]["receipt"]} for answer in answers]
    told = [_tell(stack, body, str(n)) for n, body in enumerate(bodies[:3])]
    killed = stack.kill("serve")
    until(lambda: stack.replaced("serve", killed) and stack.ready(), 60, "the gateway is back")

    assert [reply.status_code for reply in told] == [201] * 3
    ids = [reply.json()["id"] for reply in told]
    assert {event.id for event in _feedback(stack)} >= set(ids)
    again = [_tell(stack, body, str(n)) for n, body in enumerate(bodies)]
    assert [reply.json()["id"] for reply in again[:3]] == ids
    assert again[3].status_code == 201  # a receipt of the killed gateway's, not used before
    events = [event.id for event in _feedback(stack)]
    assert all(events.count(one) == 1 for one in (*ids, again[3].json()["id"]))
    _, after = stack.chat("What is 2 plus 3?", user="k0", max_tokens=4)
    exposure, latest = stack.completion(after).exposure, stack.changes()[-1]
    assert exposure.adapter in (latest.champion, latest.challenger)
    assert exposure.fallback is None


def _people_vote(stack: Stack, votes: int) -> None:
    people = Crowd(crowd(100, seed=5, mode="taste"), base_url=f"{stack.url}/v1", api_key=stack.key, seed=5)

    async def talk() -> None:
        try:
            await people.vote(votes)
        finally:
            await people.close()

    asyncio.run(talk())
    assert (people.tally.votes, people.tally.failures) == (votes, [])


def _cycles(stack: Stack) -> list[dict]:
    path = stack.settings.trainer_dir / "cycles.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _metric(stack: Stack, name: str) -> float:
    """A gauge of the trainer's; 0 while nobody answers."""
    try:
        page = httpx.get(f"http://127.0.0.1:{stack.settings.metrics_port_trainer}/metrics", timeout=5).text
    except httpx.TransportError:
        return 0.0
    return next(float(line.split()[-1]) for line in page.splitlines() if line.startswith(f"{name} "))


def _held_by_engine(stack: Stack) -> set[str]:
    async def ask() -> set[str]:
        engine = VllmEngine(stack.settings.engines[0])
        try:
            return await engine.loaded()
        finally:
            await engine.close()

    return asyncio.run(ask())


def _tell(stack: Stack, body: dict, key: str) -> httpx.Response:
    return stack.http.post("/v1/feedback", json=body, headers={"idempotency-key": f"killed-{key}"})


def _feedback(stack: Stack) -> list:
    return [record.event for record in TopicReader(stack.log, "feedback").drain() if isinstance(record.event.data, FeedbackSet)]
