"""Completion events on their way to the log: none lost while it is down, and what cannot be kept is counted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from feedback.events import CompletionCreated, CompletionText, Event, Exposure, Message
from feedback.log import LogUnavailable, Position, TopicReader
from feedback.seal import KeysUnavailable, Owner, owner_of
from feedback.sqlite_log import SqliteLog
from ops import metrics
from serving.capture import AnswerUnsealed, Capture


def completion(name: str, answer: str = "answer", user: str = "u") -> Event:
    data = CompletionCreated(
        completion_id=name,
        conversation="c",
        user=user,
        text=CompletionText(messages=(Message(role="user", content="hi"),), answer=answer),
        exposure=Exposure(completion_id=name, adapter="base"),
    )
    return Event(id=name, time=1.0, project="default", key="c", data=data)


class Moody(SqliteLog):
    """A log that is down until it is let up."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.up = threading.Event()
        self.refusals = 0

    def append(self, events: Sequence[Event], timeout: float = 10.0) -> list[Position]:
        if not self.up.is_set():
            self.refusals += 1
            raise LogUnavailable("down")
        return super().append(events, timeout)


def names_in(log: SqliteLog) -> list[str]:
    return [record.event.id for record in TopicReader(log, "completions").drain()]


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


async def test_events_wait_while_the_log_is_down_and_arrive_in_order_once(tmp_path: Path):
    log = Moody(tmp_path / "log.db")
    capture = Capture(log, retry_s=0.01)
    capture.start()
    for number in range(600):
        capture.put(completion(f"e{number:03}"))
    await until(lambda: log.refusals >= 2)
    assert capture.waiting == 600
    assert metrics.LOG_UP._value.get() == 0
    log.up.set()
    await capture.stop(10)
    assert metrics.LOG_UP._value.get() == 1
    assert names_in(log) == [f"e{number:03}" for number in range(600)]
    assert capture.waiting == 0
    log.close()


async def test_what_the_bounds_cannot_hold_is_counted(tmp_path: Path):
    log = Moody(tmp_path / "log.db")
    lost = metrics.CAPTURE_LOST._value.get
    before = lost()
    capture = Capture(log, max_events=2, retry_s=0.01)
    for name in ("a", "b", "c"):
        capture.put(completion(name))
    assert (capture.waiting, lost() - before) == (2, 1)
    narrow = Capture(log, max_bytes=5_000)
    narrow.put(completion("d", answer="x" * 2_000))
    narrow.put(completion("e", answer="x" * 2_000))
    assert (narrow.waiting, lost() - before) == (1, 2)
    capture.start()
    await capture.stop(0.05)
    assert lost() - before == 4, "what is still queued at shutdown is lost, and counted"
    log.close()


async def test_an_event_that_the_log_refuses_does_not_hold_up_the_others(tmp_path: Path):
    log = Moody(tmp_path / "log.db")
    log.up.set()
    before = metrics.CAPTURE_LOST._value.get()
    capture = Capture(log, retry_s=0.01)
    for event in (completion("a"), completion("big", answer="x" * 2_000_000), completion("c")):
        capture.put(event)
    capture.start()
    await capture.stop(10)
    assert names_in(log) == ["a", "c"]
    assert metrics.CAPTURE_LOST._value.get() - before == 1
    log.close()


class Keyless(SqliteLog):
    """A log that has no keys of some users."""

    def __init__(self, path: Path, *users: str) -> None:
        super().__init__(path)
        self.lacking = {Owner("default", user) for user in users}
        self.refusals = 0

    def append(self, events: Sequence[Event], timeout: float = 10.0) -> list[Position]:
        if lacking := self.lacking & {owner_of(event) for event in events}:
            self.refusals += 1
            raise KeysUnavailable("no keys", lacking)
        return super().append(events, timeout)


async def test_who_has_no_key_now_holds_up_nobody_else_and_is_written_once_there_is_one(tmp_path: Path):
    log = Keyless(tmp_path / "log.db", "new", "newer")
    capture = Capture(log, retry_s=0.01)
    capture.start()
    users = ["new", "known", "newer", "known", "new"]
    for number, user in enumerate(users * 200):  # 600 of them wait: more than a group
        capture.put(completion(f"e{number:04}", user=user))
    known = [f"e{number:04}" for number, user in enumerate(users * 200) if user == "known"]
    await until(lambda: capture.waiting == 600)
    assert names_in(log) == known
    capture.put(completion("later", user="known"))
    await capture.settled(["later"], 5)
    refusals = log.refusals
    await until(lambda: log.refusals > refusals)
    log.lacking.clear()
    await capture.stop(10)
    others = [f"e{number:04}" for number, user in enumerate(users * 200) if user != "known"]
    assert names_in(log) == [*known, "later", *others]
    log.close()


async def test_who_waits_for_an_answer_without_a_key_is_told_so_at_once_and_again_while_it_is_tried_again(tmp_path: Path):
    log = Keyless(tmp_path / "log.db", "new")
    capture = Capture(log, retry_s=0.01)
    capture.start()
    capture.put(completion("theirs", user="new"))
    for refusals in (0, 3, 6):
        await until(lambda least=refusals: log.refusals >= least)
        with pytest.raises(AnswerUnsealed) as told:
            await capture.settled(["theirs"], 30)
        assert told.value.owners == {Owner("default", "new")}
    log.lacking.clear()
    await until(lambda: capture.waiting == 0)
    capture.put(completion("next", user="new"))
    await capture.settled(["next"], 5)
    await capture.stop(10)
    assert names_in(log) == ["theirs", "next"]
    log.close()
