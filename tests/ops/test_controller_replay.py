"""The same log, the same decisions; votes that mean nothing promote nothing."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from controller_world import USERS, World
from streams import duels, votes_replaced

from feedback.events import Event
from ops.controller import Known
from ops.deployment import Deployment


def test_a_controller_started_in_mid_rollout_has_the_same_evidence(world):
    world.to_canary()
    world.duel(USERS[:100], prefers=0.6)
    before = world.controller.status()
    assert before["duels"]["wins"] > 10
    again = world.new_controller()
    assert again.status() == before
    assert again.deployment == world.controller.deployment


def play(world: World, events: Sequence[Event], *, every: int, restart: bool = False) -> list[Event]:
    """Append events in order with a tick after ``every`` of them, by a new controller each time with ``restart``."""
    for begin in range(0, len(events), every):
        world.log.append(events[begin : begin + every])
        if restart:
            world.controller = world.new_controller()
        world.tick()
    return world.control()


def recorded(root: Path, prefers: float, seed: int) -> tuple[World, list[Event]]:
    """A world in its first step, and what its users do there."""
    world = World(root)
    world.to_canary()
    full = world.controller.deployment
    return world, list(duels(full, USERS[:180], prefers=prefers, seed=seed))


def test_the_same_log_with_ticks_at_the_same_points_gives_the_same_decisions_even_if_restarted_at_each(tmp_path):
    decided = []
    for name, restart in (("one", False), ("two", False), ("three", True)):
        world, events = recorded(tmp_path / name, prefers=0.85, seed=3)
        decided.append(play(world, events, every=50, restart=restart))
        world.log.close()
    assert decided[0] == decided[1] == decided[2]
    assert [e.data.state for e in decided[0]] == ["GATED", "CANARY", "RAMP"]


def outcome_of(root: Path, prefers: float, seed: int, how: str | None) -> list[str]:
    """States of a rollout in which everybody votes, twice over: at each step, replayed with votes that may mean nothing."""
    world, events = recorded(root, prefers=prefers, seed=seed)
    rng = Random(seed)
    play(world, events if how is None else votes_replaced(events, rng, how=how), every=60)
    if world.controller.deployment.state == "RAMP":
        more = list(duels(world.controller.deployment, [f"more-{u}" for u in USERS[:120]], prefers=prefers, seed=seed + 1000))
        play(world, more if how is None else votes_replaced(more, rng, how=how), every=60)
    states = world.states()
    world.log.close()
    shutil.rmtree(root)
    return states


@pytest.mark.parametrize("how", ["random", "shuffled"])
def test_votes_that_mean_nothing_promote_nothing_in_ten_runs(tmp_path, how):
    for seed in range(10):
        states = outcome_of(tmp_path / str(seed), 0.8, seed, how)
        assert states[:3] == ["GATED", "CANARY", "RAMP"]
        assert "PROMOTED" not in states


def test_the_true_votes_of_the_same_people_promote(tmp_path):
    for seed in range(2):
        assert outcome_of(tmp_path / str(seed), 0.8, seed, None)[-1] == "PROMOTED"


def test_a_change_that_the_log_gives_twice_is_taken_once(world):
    manifest = world.to_canary()
    known = Known(Deployment.initial("default"))
    for event in (*world.control(), *world.control()):
        known.take(event)
    assert known.history[f"ro-{manifest.id}"].changes == 2
    assert known.deployment == world.controller.deployment
