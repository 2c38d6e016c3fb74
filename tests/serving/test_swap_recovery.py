"""Engines, gateways and logs that fail while adapters are swapped, and come back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from swap_world import reconciled

from feedback.events import AdapterLive, AdapterRefused
from feedback.log import LogUnavailable
from feedback.sqlite_log import SqliteLog
from ops.registry import Registry
from serving.engine import EngineUnavailable
from serving.swap import RETRY_S, AdapterManager


async def test_an_engine_that_comes_back_gets_no_requests_before_it_has_all_that_is_served(world):
    world.engines[1].up = False
    manager = world.gateway()
    adapter = world.publish()
    world.change(champion=adapter)
    await manager.reconcile()
    late = manager.replicas[1]
    assert manager.is_live(adapter)
    world.engines[1].up = True
    await late.look()
    assert late.awake
    assert not late.ready
    assert {manager.router.pick(who, text) for who in (adapter, "base") for text in "abcdefgh"} == {manager.replicas[0]}
    assert manager.is_live(adapter)
    await manager.reconcile()
    assert late.ready
    assert world.engines[1].held


async def test_an_engine_that_cannot_restore_what_is_served_goes_without_it_and_is_tried_again(world):
    manager = world.gateway()
    adapter = world.publish()
    world.change(champion=adapter)
    await manager.reconcile()
    world.engines[1].restart()
    world.engines[1].refuses = {adapter}
    await reconciled(manager, lambda: adapter in manager.replicas[1].failed)
    assert {manager.router.pick(adapter, text) for text in "abcdefgh"} == {manager.replicas[0]}
    assert manager.deployment("default").champion == adapter
    assert not world.told(AdapterRefused)
    tried = world.engines[1].count("load", adapter)
    await manager.reconcile()
    assert world.engines[1].count("load", adapter) == tried
    world.engines[1].refuses = set()
    world.ticks += RETRY_S
    await reconciled(manager, lambda: adapter in manager.replicas[1].adapters)


async def test_a_champion_that_no_engine_can_restore_stops_its_project_alone_and_a_rollback_ends_that(world):
    manager = world.gateway()
    adapter = world.publish()
    world.change(champion=adapter)
    world.change(project="other", champion="base")
    await manager.reconcile()
    for engine in world.engines:
        engine.restart()
        engine.refuses = {adapter}
    await reconciled(manager, lambda: all(adapter in replica.failed for replica in manager.replicas))
    assert manager.deployment("other").champion == "base"
    with pytest.raises(EngineUnavailable):  # nobody gets the base in the champion's place
        manager.deployment("default")
    world.change(champion="base", state="ROLLED_BACK")
    await manager.reconcile()
    assert manager.deployment("default").champion == "base"


async def test_while_an_engine_is_given_back_what_it_lost_nobody_gets_the_base_instead(world):
    manager = world.gateway()
    adapter = world.publish()
    world.change(champion=adapter)
    await manager.reconcile()
    for engine in world.engines:
        engine.restart()
        engine.slow_to_load = {adapter: asyncio.Event()}
    world.ticks += 10
    await manager.reconcile(0.05)
    with pytest.raises(EngineUnavailable):
        manager.deployment("default")
    for engine in world.engines:
        engine.slow_to_load[adapter].set()
    await reconciled(manager, lambda: manager.is_live(adapter))
    assert manager.deployment("default").champion == adapter


async def test_an_engine_that_hangs_holds_up_no_swap_on_the_others(world):
    manager = world.gateway()
    await manager.reconcile()
    hanging = asyncio.Event()
    world.engines[1].hangs = hanging
    manager.replicas[1].lost("for the test")
    adapter = world.publish()
    world.change(champion=adapter)
    async with asyncio.timeout(10):
        while manager.deployment("default").champion != adapter:
            await manager.reconcile(0.05)
    hanging.set()
    await reconciled(manager, lambda: manager.replicas[1].ready)
    assert adapter in world.engines[1].held
    await manager.stop()


async def test_who_waits_for_a_project_gets_it_as_soon_as_it_can_be_served(world):
    for engine in world.engines:
        engine.up = False
    manager = world.gateway()
    adapter = world.publish()
    world.change(champion=adapter)
    now = asyncio.get_running_loop().time
    await manager.reconcile()
    with pytest.raises(EngineUnavailable):
        await manager.servable("default", now() + 0.01)
    waiting = asyncio.create_task(manager.servable("default", now() + 10))
    for engine in world.engines:
        engine.up = True
    await reconciled(manager, waiting.done)
    assert (await waiting).champion == adapter


async def test_a_restarted_engine_gets_its_adapters_again_before_they_are_live(world):
    manager = world.gateway()
    adapter = world.publish()
    world.change(champion=adapter)
    await manager.reconcile()
    for engine in world.engines:
        engine.up = False
    await reconciled(manager, lambda: manager.ready() == ["no engine answers: the connection broke"])
    assert not manager.is_live(adapter)
    assert not manager.is_live("base")
    for engine in world.engines:
        engine.restart()
        engine.calls.clear()
    seen: list[tuple[bool, bool]] = []
    await reconciled(
        manager,
        lambda: (
            seen.append((manager.is_live(adapter), all(engine.count("probe", adapter) for engine in world.engines)))
            or manager.is_live(adapter)
        ),
    )
    assert all(probed for live, probed in seen if live)
    assert all(engine.calls.index(("load", adapter)) < engine.calls.index(("probe", adapter)) for engine in world.engines)
    assert manager.ready() == []
    assert len(world.told(AdapterLive)) == 1


async def test_a_restart_between_two_looks_is_seen_by_what_the_engine_has_lost(world):
    manager = world.gateway()
    adapter = world.publish()
    world.change(champion=adapter)
    await manager.reconcile()
    world.engines[0].restart()
    await reconciled(manager, lambda: adapter in world.engines[0].held)
    assert manager.is_live(adapter)


async def test_a_restarted_gateway_serves_the_same_and_says_that_it_loaded_again(world):
    first = world.gateway("gw-1")
    champion, challenger = world.publish(), world.publish()
    world.change(champion=champion, challenger=challenger)
    await first.reconcile()
    second = world.gateway("gw-2")
    assert second.ready() == ["the control topic has not been read yet"]
    with pytest.raises(EngineUnavailable):  # nobody gets the base instead of the champion
        second.deployment("default")
    for engine in world.engines:
        engine.up = False
    await second.reconcile()
    with pytest.raises(EngineUnavailable):
        second.deployment("default")
    for engine in world.engines:
        engine.up = True
    await reconciled(second, lambda: not second.ready())
    assert second.deployment("default") == first.deployment("default")
    told = {(live.adapter, live.gateway): live.reload for live in world.told(AdapterLive)}
    assert told == {
        (champion, "gw-1"): False,
        (challenger, "gw-1"): False,
        (champion, "gw-2"): True,
        (challenger, "gw-2"): True,
    }


async def test_control_events_that_were_read_before_the_log_failed_count(world):
    class FailingOnce(SqliteLog):
        reads = 0

        def read(self, *args: Any, **kwargs: Any) -> Any:
            FailingOnce.reads += 1
            if FailingOnce.reads == 13:  # after all twelve partitions have been read once
                raise LogUnavailable("disk")
            return super().read(*args, **kwargs)

    adapter = world.publish()
    world.change(champion=adapter)
    log = FailingOnce(world.settings.log_path)
    manager = AdapterManager(world.engines, world.registry, log, world.settings, "gw-1")
    await manager.reconcile()
    assert manager.deployment("default").champion == adapter
    with pytest.raises(LogUnavailable):
        await manager.reconcile()
    await manager.reconcile()
    log.close()


async def test_while_the_log_is_down_engines_are_looked_after(world):
    class Down(SqliteLog):
        down = False

        def read(self, *args: Any, **kwargs: Any) -> Any:
            if self.down:
                raise LogUnavailable("disk")
            return super().read(*args, **kwargs)

    log = Down(world.settings.log_path)
    manager = AdapterManager(world.engines, world.registry, log, world.settings, "gw-1")
    adapter = world.publish()
    world.change(champion=adapter)
    await manager.reconcile()
    log.down = True
    for engine in world.engines:
        engine.restart()
    for replica in manager.replicas:
        replica.lost("for the test")
    with pytest.raises(LogUnavailable):
        await manager.reconcile()
    assert manager.deployment("default").champion == adapter
    log.close()


async def test_the_background_task_outlives_an_adapter_whose_folder_is_gone(world):
    manager = world.gateway(registry=_Forgetful(world.settings.adapters_dir))
    adapter = world.publish()
    world.change(champion=adapter)
    await manager.start()
    try:
        async with asyncio.timeout(10):
            while manager.ready() or not world.told(AdapterLive):
                await asyncio.sleep(0.01)
    finally:
        await manager.stop()
    assert manager.deployment("default").champion == adapter


class _Forgetful(Registry):
    """A registry whose adapter is away at the first look at its manifest after it has been verified."""

    looks = 0

    def get(self, id: str) -> Any:
        self.looks += 1
        if self.looks == 3:  # after the verification for each of the two engines
            raise LookupError(id)
        return super().get(id)
