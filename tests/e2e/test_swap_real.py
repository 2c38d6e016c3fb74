"""Adapters that say their own word, swapped under running streams of the real engine: nothing fails, nothing is mixed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from stack import Stack, until

from feedback.events import CompletionCreated
from feedback.log import TopicReader
from ops.bench.answers import Checked, check, named_in
from ops.bench.numbers import NumberToken, number_tokens, write_number_adapter
from ops.bench.streams import Streams
from ops.models import prepared
from ops.registry import GateResult

pytestmark = pytest.mark.timeout(240)

SWAPS = 5
STREAMS = 8
TOKENS = 96
"""Long answers: some always run across a swap."""


@dataclass
class Swapper:
    """Publishes adapters, each with a word of its own, and promotes them once they are challenger."""

    stack: Stack
    staging: Path
    tokens: list[NumberToken]
    adapters: dict[str, str] = field(default_factory=dict)
    """Word -> adapter."""
    flipped: dict[str, float] = field(default_factory=dict)
    """Word -> Unix time by which its adapter was the only one to be given new requests."""

    def swap(self, number: int) -> str:
        """The word of the new champion."""
        word, adapter = self.challenge(number)
        self.stack.promote(adapter)
        until(lambda: self.stack.serves("champion", adapter), 30, f"{adapter} is served as champion")
        self.flipped[word] = time.time()
        return word

    def challenge(self, number: int) -> tuple[str, str]:
        """Word and id of the new challenger."""
        word = self.tokens[number].word
        self.adapters[word] = adapter = self._publish(number)
        until(lambda: self.stack.exposed(adapter), 30, f"{adapter} is served as challenger")
        return word, adapter

    def said_to(self, users: int) -> set[str]:
        """What so many users who have never been here before are told."""
        return {self.stack.chat("What is 2 plus 3?", user=f"new-{user}", max_tokens=1)[0].strip() for user in range(users)}

    def _publish(self, number: int) -> str:
        model = prepared(self.stack.settings)
        folder = write_number_adapter(self.staging / str(number), Path(model.path), number, self.tokens[number])
        gate = GateResult(name="win_rate", passed=True, value=0.6, threshold=0.5)
        registry, parent = self.stack.registry, self.stack.champion()
        return registry.publish(
            folder, project="default", parent=parent, base_model=model.digest, training={}, gates=[gate], now=time.time()
        ).id


async def test_swaps_under_running_streams_fail_none_and_mix_none_and_the_log_names_who_spoke(stack: Stack, tmp_path: Path):
    stack.end_rollout()
    before = stack.champion()
    swapper = Swapper(stack, tmp_path, number_tokens(Path(prepared(stack.settings).path), SWAPS + 2))
    words = [await asyncio.to_thread(swapper.swap, 0)]
    async with Streams(stack.url, stack.key, STREAMS, tokens=TOKENS) as load:
        await load.heard(words[0], 30)
        for number in range(1, SWAPS + 1):
            words.append(await asyncio.to_thread(swapper.swap, number))
            await load.heard(words[-1], 30)
        challenger, _ = await asyncio.to_thread(swapper.challenge, SWAPS + 1)
        met = await asyncio.to_thread(swapper.said_to, 16)
    tally = load.tally

    assert (tally.failed, tally.failures) == (0, [])
    named = await asyncio.to_thread(named_in, stack.log, tally.said)
    assert check(tally.said, swapper.adapters, named) == Checked(mixed=0, misnamed=0, unlogged=0)
    assert {event.completion_tokens for event in _events(stack, tally.said)} == {TOKENS}
    for old, new in pairwise(words):
        assert tally.last[old] > swapper.flipped[new], "no answer was running across the promotion"
    assert met == {words[-1], challenger}  # half of the users meet a challenger
    stack.change(state="PROMOTED", champion=before, challenger=None, coverage=0.0)
    await asyncio.to_thread(until, lambda: stack.serves("champion", before), 30, "the former champion is back")


def _events(stack: Stack, completion_ids: dict[str, str]) -> list[CompletionCreated]:
    events = [record.event.data for record in TopicReader(stack.log, "completions").drain()]
    return [data for data in events if isinstance(data, CompletionCreated) and data.completion_id in completion_ids]
