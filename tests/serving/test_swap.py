"""Hot swap over engines in memory, with the real log and the real registry on disk: what goes live, for whom, and what goes."""

from __future__ import annotations

import asyncio

import pytest
from swap_world import PUBLISHED, reconciled

from feedback.events import AdapterLive, AdapterRefused
from ops.metrics import GATEWAY
from serving.demand import PIN_S
from serving.swap import STRAY_S, UNUSED_S


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
