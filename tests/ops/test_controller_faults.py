"""Controllers that die, logs that fail or lag, and two controllers at once."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import NoReturn

import pytest
from controller_world import USERS
from streams import duels

from feedback.events import Event
from feedback.log import LogUnavailable, Position, Record
from feedback.sqlite_log import SqliteLog
from ops.controller import Controller


class Dying:
    """A log whose appends fail: before anything is written, or after it is durable but before anybody hears of it."""

    def __init__(self, log: SqliteLog, after: bool) -> None:
        self._log, self._after = log, after

    def append(self, events: Sequence[Event], timeout: float = 10.0) -> list[Position]:
        if self._after:
            self._log.append(events)
        raise LogUnavailable("killed")

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)


@pytest.mark.parametrize("after", [False, True], ids=["before it is written", "after it is written"])
def test_a_crash_around_the_append_has_one_effect(world, after):
    world.publish()
    dying = Controller(Dying(world.log, after), world.settings, clock=lambda: world.now)
    with pytest.raises(LogUnavailable):
        dying.tick()
    world.controller = world.new_controller()
    world.tick()
    assert world.states() == ["GATED"]
    assert world.controller.deployment.rollouts == 1


class FailsOnce:
    """A log of which one call fails: the ``calls``-th of these from when that was set, 0 for none."""

    def __init__(self, log: SqliteLog, method: str) -> None:
        self._log, self._method, self.calls = log, method, 0

    def __getattr__(self, name: str) -> object:
        if name == self._method:
            self.calls -= 1
            if self.calls == 0:
                return self._fail
        return getattr(self._log, name)

    def _fail(self, *_: object, **__: object) -> NoReturn:
        raise LogUnavailable("disk")


def test_a_log_that_fails_once_holds_up_one_decision(world):
    world.publish()
    log = FailsOnce(world.log, "append")
    world.controller = Controller(log, world.settings, clock=lambda: world.now)
    log.calls = 1
    with pytest.raises(LogUnavailable):
        world.controller.tick()
    assert world.tick() == ["GATED"]


def test_votes_read_before_the_log_failed_count(world):
    log = FailsOnce(world.log, "read")
    world.controller = Controller(log, world.settings, clock=lambda: world.now)
    world.to_canary()
    world.controller.refresh()
    world.log.append(list(duels(world.controller.deployment, USERS[:40], prefers=0.8)))
    log.calls = 12 + 24 + 5  # control, completions twice, then in the midst of the feedback
    for _ in range(2):
        with contextlib.suppress(LogUnavailable):
            world.controller.refresh()
    assert log.calls < 0
    world.controller.refresh()
    fresh = world.new_controller()
    fresh.refresh()
    assert fresh.evidence().duels.n > 0
    assert world.controller.evidence() == fresh.evidence()


def test_two_controllers_decide_each_change_once(world):
    manifest = world.to_canary()
    slow = world.new_controller()
    early = list(duels(world.controller.deployment, USERS[:60], prefers=1.0))
    world.log.append(early[:-3])
    slow.refresh()
    world.log.append(early[-3:])
    assert world.tick() == ["RAMP"]
    read, slow.refresh = slow.refresh, lambda: None  # it has not seen what the other one did, nor the last vote
    assert slow.tick() == []
    slow.refresh = read
    slow.tick()
    assert world.states() == ["GATED", "CANARY", "RAMP"]
    assert slow.deployment == world.controller.deployment
    assert slow.deployment.challenger == manifest.id


class Late:
    """A log that, like Kafka behind its outbox, gives back the control topic only later."""

    def __init__(self, log: SqliteLog) -> None:
        self._log, self.late = log, True

    def read(self, topic: str, partition: int, offset: int, limit: int = 1000) -> list[Record]:
        return [] if self.late and topic == "control" else self._log.read(topic, partition, offset, limit)

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)


def test_nothing_more_is_decided_before_the_last_decision_is_read_back(world):
    world.publish(1)
    late = Late(world.log)
    world.controller = Controller(late, world.settings, clock=lambda: world.now)
    assert world.tick() == ["GATED"]
    world.publish(2)
    assert world.tick() == []
    late.late = False
    assert world.tick() == []
    assert world.states() == ["GATED"]
    assert world.controller.deployment.since == world.control()[0].time
