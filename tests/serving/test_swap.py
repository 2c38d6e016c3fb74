"""Hot swap over engines in memory, with the real log and the real registry on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from swap_world import PUBLISHED, World

from feedback.events import AdapterLive, AdapterRefused
from feedback.log import LogUnavailable
from feedback.sqlite_log import SqliteLog
from ops.metrics import GATEWAY
from ops.registry import Registry
from serving.demand import PIN_S
from serving.engine import EngineUnavailable
from serving.swap import RETRY_S, STRAY_S, UNUSED_S, AdapterManager


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.log.close()


async def reconciled(manager: AdapterManager, condition: Callable[[], Any]) -> None:
    """Round after round until the condition holds."""
    async with asyncio.timeout(10):
        while not condition():
            await manager.reconcile()
            await asyncio.sleep(0.01)


async def test_a_challenger_is_served_only_once_every_ready_engine_has_it(world):
    manager = world.gateway()
    await manager.reconcile()
    adapter = world.publish()
    world.change(challenger=adapter)
    world.engines[1].breaks_at_load = {adapter}
    await manager.reconcile()
    assert adapter in world.engines[0].held
    # the second engine failed over it and for the base as well: it is not ready, and nothing is said about the adapter
    assert manager.is_live(adapter)
    assert not world.told(AdapterRefused)
    assert {manager.router.pick(adapter, text).engine for text in "cd"} == {world.engines[0]}

    world.engines[1].breaks_at_load = set()
    world.engines[1].deaf = False
    await reconciled(manager, lambda: adapter in world.engines[1].held)
    assert manager.is_live(adapter)
    assert {manager.router.pick(adapter, text).engine for text in "abcdefgh"} == set(world.engines)
    assert manager.deployment("default").challenger == adapter
    assert manager.deployment("default").coverage == 0.5


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


async def test_going_live_is_told_and_counted_once_with_the_seconds_since_publication(world):
    def counted() -> float:
        return GATEWAY.get_sample_value("plaudit_swaps_total", {"outcome": "live"}) or 0.0

    manager, before = world.gateway(), counted()
    adapter = world.publish()
    world.change(challenger=adapter)
    await manager.reconcile()
    world.now += 100
    world.change(challenger=adapter, coverage=1.0, step=1)
    await manager.reconcile()
    assert manager.deployment("default").coverage == 1.0
    assert world.told(AdapterLive) == [
        AdapterLive(adapter=adapter, gateway="gw-1", published=PUBLISHED, seconds=2.5, reload=False)
    ]
    assert counted() == before + 1
    assert [engine.count("load", adapter) for engine in world.engines] == [1, 1]


async def test_a_challenger_that_answers_as_the_base_is_refused_once_and_never_served(world):
    manager = world.gateway()
    adapter = world.publish()
    for engine in world.engines:
        engine.without_effect = {adapter}
    world.change(challenger=adapter)
    for _ in range(3):
        await manager.reconcile()
        assert manager.deployment("default").challenger is None
    assert [(refusal.adapter, refusal.gateway) for refusal in world.told(AdapterRefused)] == [(adapter, "gw-1")]
    assert "exactly as the base" in world.told(AdapterRefused)[0].reason
    assert not manager.is_live(adapter)
    assert [engine.count("load", adapter) for engine in world.engines] == [1, 1]
    assert all(adapter not in engine.held for engine in world.engines)
    assert manager.ready() == []


async def test_an_adapter_of_nan_in_the_registry_never_reaches_an_engine_and_the_champion_serves_on(world):
    manager = world.gateway()
    champion, poisoned = world.publish(), world.publish(fill=float("nan"))
    world.change(champion=champion)
    await manager.reconcile()
    world.change(champion=champion, challenger=poisoned)
    await manager.reconcile()
    assert manager.deployment("default").champion == champion
    assert manager.deployment("default").challenger is None
    assert manager.deployment("default").coverage == 0.0
    assert manager.is_live(champion)
    assert all(engine.count("load", poisoned) == 0 for engine in world.engines)
    assert "NaN" in world.told(AdapterRefused)[0].reason

    world.change(champion=poisoned)  # even as champion
    await manager.reconcile()
    assert manager.deployment("default").champion == champion


async def test_an_engine_that_refuses_an_adapter_and_still_answers_has_it_refused(world):
    manager = world.gateway()
    adapter = world.publish()
    world.engines[0].refuses = {adapter}
    world.change(challenger=adapter)
    await manager.reconcile()
    assert not world.told(AdapterRefused)  # it may have been a passing failure
    await manager.reconcile()
    assert [refusal.reason for refusal in world.told(AdapterRefused)] == [f"cannot load {adapter}"]
    assert manager.deployment("default").challenger is None


async def test_a_new_champion_replaces_the_old_in_one_step_and_the_old_is_unloaded_only_without_leases(world):
    manager = world.gateway()
    old, new = world.publish(), world.publish()
    world.change(champion=old, challenger=new)
    await manager.reconcile()
    before = manager.deployment("default")
    world.change(champion=new, challenger=new, state="PROMOTED", promotions=1)
    manager.demand.take(old)
    manager.demand.take(old)
    await manager.reconcile()
    after = manager.deployment("default")
    assert (before.champion, before.challenger) == (old, new)  # what a request has in hand does not change under it
    assert (after.champion, after.challenger, after.coverage) == (new, None, 0.0)
    assert all(old in engine.held for engine in world.engines)
    assert manager.router.pick(old, "c") in manager.replicas
    manager.demand.give_back(old)
    world.ticks += 100
    await manager.reconcile()
    assert all(old in engine.held for engine in world.engines)
    manager.demand.give_back(old)
    await manager.reconcile()
    assert all(set(engine.held) == {new} for engine in world.engines)


async def test_an_adapter_that_is_not_used_any_more_stays_a_moment_for_gateways_that_flip_later(world):
    manager = world.gateway()
    old, new = world.publish(), world.publish()
    world.change(champion=old)
    await manager.reconcile()
    world.change(champion=new)
    await manager.reconcile()
    world.ticks += UNUSED_S - 0.1
    await manager.reconcile()
    assert all(old in engine.held for engine in world.engines)
    world.change(champion=old)  # wanted again meanwhile
    await manager.reconcile()
    world.ticks += 100
    await manager.reconcile()
    assert all(set(engine.held) >= {old} for engine in world.engines)
    assert manager.deployment("default").champion == old
    assert [engine.count("load", old) for engine in world.engines] == [1, 1]


async def test_what_an_earlier_gateway_left_on_an_engine_is_unloaded_in_the_end(world):
    left = world.publish()
    for engine in world.engines:
        engine.held[left] = "/adapters/left"
    manager = world.gateway()
    await manager.reconcile()
    await manager.reconcile()
    assert all(left in engine.held for engine in world.engines)
    world.ticks += STRAY_S
    await manager.reconcile()
    assert not any(engine.held for engine in world.engines)


async def test_an_adapter_of_another_project_is_never_deployed(world):
    manager = world.gateway()
    adapter = world.publish()
    world.change(champion=adapter)
    await manager.reconcile()
    world.change(project="other", champion=adapter)
    await manager.reconcile()
    assert manager.deployment("other").champion == "base"
    with pytest.raises(LookupError):
        await manager.pin("other", adapter, deadline=0)


async def test_an_adapter_that_failed_a_gate_is_served_to_nobody_not_even_an_operator(world):
    manager = world.gateway()
    await manager.reconcile()
    rejected = world.publish(passed=False)
    with pytest.raises(LookupError, match="its gates failed: win_rate"):
        await manager.pin("default", rejected, deadline=0)
    await manager.reconcile()
    assert not any(engine.held for engine in world.engines)


async def test_an_operator_may_have_any_fit_adapter_of_the_project_made_live(world):
    manager = world.gateway()
    await manager.reconcile()
    adapter = world.publish()
    pinning = asyncio.create_task(manager.pin("default", adapter, asyncio.get_running_loop().time() + 10))
    await reconciled(manager, pinning.done)
    await pinning
    assert manager.is_live(adapter)
    assert manager.deployment("default").champion == "base"
    poisoned = world.publish(fill=float("nan"))
    pinning = asyncio.create_task(manager.pin("default", poisoned, asyncio.get_running_loop().time() + 10))
    await reconciled(manager, pinning.done)
    with pytest.raises(LookupError, match="cannot be served"):
        await pinning
    world.ticks += PIN_S
    await manager.reconcile()
    world.ticks += UNUSED_S
    await manager.reconcile()
    assert not any(engine.held for engine in world.engines)


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


async def test_while_a_new_champion_is_not_live_the_old_one_serves_and_stays_loaded(world):
    manager = world.gateway()
    old, new = world.publish(), world.publish()
    world.change(champion=old)
    await manager.reconcile()
    for engine in world.engines:
        engine.slow_to_load = {new: asyncio.Event()}
    world.change(champion=new)
    await manager.reconcile(0.05)
    assert manager.deployment("default").champion == old
    assert all(old in engine.held for engine in world.engines)
    for engine in world.engines:
        engine.slow_to_load[new].set()
    await reconciled(manager, lambda: manager.deployment("default").champion == new)


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


async def test_adapters_of_others_on_the_engine_are_left_alone(world):
    """The trainer's, say."""
    for engine in world.engines:
        engine.held["policy-3"] = "/scratch/policy-3"
    manager = world.gateway()
    adapter = world.publish()
    world.change(challenger=adapter)
    await manager.reconcile()
    world.change(state="ROLLED_BACK", challenger=adapter)
    await manager.reconcile()
    world.ticks += STRAY_S
    await manager.reconcile()
    assert all(set(engine.held) == {"policy-3"} for engine in world.engines)


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
    manager = world.gateway()
    manager._registry = _Forgetful(world.settings.adapters_dir)
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
