"""What is remembered of the database, for how long, and who waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

from ops.database import DatabaseUnavailable
from serving.recall import FRESH_S, HELD_S, Recall


class World:
    """A clock, and a database that answers, refuses or hangs as it is told."""

    def __init__(self, **settings: int) -> None:
        self.now = 1000.0
        self.changes = 0
        self.looks = 0
        self.error: Exception | None = None
        self.value: object = "first"
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.recall = Recall(lambda: self.changes, lambda: self.now, **settings)

    def look(self) -> object:
        self.looks += 1
        self.goes_on.wait(20)
        if self.error is not None:
            raise self.error
        return self.value

    async def ask(self, question: str = "key") -> object:
        return await self.recall.ask(question, self.look)


async def until(condition: Callable[[], bool]) -> None:
    """Returns once it holds: lookups run in threads."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.goes_on.set()
    world.recall.close()


async def test_an_answer_is_believed_for_a_second_and_no_longer(world: World):
    assert await world.ask() == "first"
    world.value = "second"
    world.now += FRESH_S - 0.01
    assert (await world.ask(), world.looks) == ("first", 1)
    world.now += 0.01
    assert (await world.ask(), world.looks) == ("second", 2)
    world.changes += 1
    world.value = "ours"
    assert await world.ask() == "ours", "what this process has written is seen at once"


async def test_nothing_is_remembered_of_what_there_is_not(world: World):
    world.value = None
    assert await world.ask() is None
    world.value = "made meanwhile"
    assert await world.ask() == "made meanwhile"


async def test_while_the_database_is_away_what_was_known_goes_on_for_five_minutes_and_all_else_is_refused(world: World):
    await world.ask()
    world.error = DatabaseUnavailable("gone")
    world.now += 10
    assert await world.ask() == "first"
    with pytest.raises(DatabaseUnavailable):
        await world.ask("another")
    assert world.recall.trouble()[0] == []
    assert "does not answer" in world.recall.trouble()[1][0]
    world.now += HELD_S - 10.01
    assert await world.ask() == "first"
    world.now += 0.01
    with pytest.raises(DatabaseUnavailable):
        await world.ask()
    assert world.recall.trouble() == (["the database does not answer"], [])


async def test_a_database_that_is_away_is_asked_once_a_second_and_logged_once(world: World):
    world.error = DatabaseUnavailable("gone")
    with capture_logs() as logs:
        for _ in range(5):
            with pytest.raises(DatabaseUnavailable):
                await world.ask()
        assert world.looks == 1
        world.now += 1.0
        for _ in range(5):
            with pytest.raises(DatabaseUnavailable):
                await world.ask()
        assert world.looks == 2
        world.error = None
        world.now += 1.0
        assert await world.ask() == "first"
        assert await world.ask("another") == "first"
    assert [(log["event"], log.get("error")) for log in logs] == [("database_away", "gone"), ("database_back", None)]
    assert world.recall.trouble() == ([], [])


async def test_who_is_remembered_waits_a_moment_for_a_database_that_hangs_and_then_not_at_all(
    world: World,
):
    world.recall.patience_s = 0.05
    await world.ask()
    await world.ask("another")
    world.goes_on.clear()
    world.now += 10
    assert await world.ask() == "first", "the one that waits in vain"
    world.now += 10
    world.recall.patience_s = 20
    assert await asyncio.wait_for(world.ask("another"), 1) == "first", "the database is asked, and nobody waits"
    await until(lambda: world.looks == 4)
    world.now += 10
    world.recall.patience_s = 0.05
    with pytest.raises(DatabaseUnavailable):
        await asyncio.wait_for(world.ask("unknown"), 1)
    world.recall.patience_s = 20
    world.now += 10
    with pytest.raises(DatabaseUnavailable):
        await asyncio.wait_for(world.ask("unknown"), 1)
    await until(lambda: world.looks == 5)
    world.value = "second"
    world.goes_on.set()
    while world.recall.trouble() != ([], []):
        await asyncio.sleep(0)
    assert await world.ask() == "second"


async def test_many_who_ask_the_same_at_once_are_one_look(world: World):
    world.goes_on.clear()
    asking = [asyncio.ensure_future(world.ask()) for _ in range(10)]
    while not world.looks:
        await asyncio.sleep(0)
    world.goes_on.set()
    assert await asyncio.gather(*asking) == ["first"] * 10
    assert world.looks == 1


async def test_of_too_many_answers_the_one_asked_for_longest_ago_is_forgotten():
    world = World(most=2)
    for question in ("a", "b"):
        await world.ask(question)
    world.now += FRESH_S
    for question in ("a", "c"):
        await world.ask(question)
    world.error = DatabaseUnavailable("gone")
    world.now += FRESH_S
    assert [await world.ask(question) for question in ("a", "c")] == ["first", "first"]
    with pytest.raises(DatabaseUnavailable):
        await world.ask("b")
    world.recall.close()


async def test_a_mistake_of_ours_is_told_as_it_is(world: World):
    await world.ask()
    world.error = ZeroDivisionError()
    world.now += FRESH_S
    with pytest.raises(ZeroDivisionError):
        await world.ask()
    assert world.recall.trouble() == ([], [])
