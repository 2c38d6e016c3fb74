"""One engine as the gateway sees it: what the base is served by, before and after a restart."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import pytest
from engine_twin import EngineTwin

from serving.null_adapter import NULL
from serving.replica import AdapterServesBase, Replica


@pytest.mark.parametrize("held_already", [False, True])
async def test_the_null_adapter_is_there_before_the_base_is_served_and_again_after_a_restart(held_already):
    engine = EngineTwin()
    if held_already:  # a gateway before us has loaded it
        engine.held[NULL] = "/run/null"
    replica = Replica(engine, 5, Path("/run/null"))
    await replica.look()
    assert replica.awake
    assert engine.held == {NULL: "/run/null"}
    assert engine.base_name == NULL
    assert [name for call, name in engine.calls if call == "answers"] == [NULL]

    engine.up = False
    await replica.look()
    assert not replica.awake
    engine.restart()
    engine.calls.clear()
    await replica.look()
    assert replica.awake
    assert engine.calls.index(("load", NULL)) < engine.calls.index(("answers", NULL))


async def test_without_a_null_adapter_the_base_has_its_own_name():
    engine = EngineTwin()
    replica = Replica(engine, 5)
    await replica.look()
    assert replica.awake
    assert engine.base_name == "base"
    assert not engine.held


async def test_an_adapter_that_the_engine_holds_already_is_probed_and_not_loaded_again():
    engine = EngineTwin()
    engine.held["default-v1-00000000"] = "/adapters/default-v1-00000000"
    replica = Replica(engine, 5)
    await replica.look()
    await replica.register("default-v1-00000000", "/adapters/default-v1-00000000")
    assert replica.adapters == {"default-v1-00000000"}
    assert {call for call, name in engine.calls if name == "default-v1-00000000"} == {"probe"}


@pytest.mark.parametrize(
    ("slight", "noise", "taken"),
    [
        (0.0, [0.0], False),
        (1e-5, [0.0], True),
        (0.01, [0.0] * 3 + [0.01] * 3, False),  # at a second look the base is off from itself by as much
        (0.05, [0.0] * 3 + [0.01] * 3, True),
        (0.3, [0.0] * 3 + [0.2] * 3, True),
    ],
)
async def test_an_adapter_must_differ_from_the_base_by_more_than_the_base_from_itself(slight, noise, taken):
    engine = EngineTwin()
    engine.slight["default-v1-00000000"] = slight
    engine.noise = cycle(noise)
    replica = Replica(engine, 5)
    await replica.look()
    if taken:
        await replica.register("default-v1-00000000", "/a")
    else:
        with pytest.raises(AdapterServesBase):
            await replica.register("default-v1-00000000", "/a")
    assert (set(engine.held) == {"default-v1-00000000"}) == taken


async def test_the_bases_answers_to_the_probes_are_asked_for_once_a_life_of_the_engine():
    engine = EngineTwin()
    replica = Replica(engine, 5)
    await replica.look()
    await replica.register("default-v1-00000000", "/a")
    asked = engine.count("probe", "base")
    await replica.register("default-v2-00000000", "/b")
    assert engine.count("probe", "base") == asked
    engine.restart()
    await replica.look()
    await replica.register("default-v1-00000000", "/a")
    assert engine.count("probe", "base") == 2 * asked


async def test_an_adapter_that_another_gateway_loads_at_the_same_moment_is_taken():
    engine = EngineTwin()
    replica = Replica(engine, 5)
    await replica.look()
    engine.held["default-v1-00000000"] = "/a"  # since our last look
    await replica.register("default-v1-00000000", "/a")
    assert replica.adapters == {"default-v1-00000000"}


async def test_an_engine_that_cannot_take_the_null_adapter_serves_the_base_under_its_own_name():
    engine = EngineTwin()
    engine.refuses = {NULL}
    replica = Replica(engine, 5, Path("/run/null"))
    await replica.look()
    assert replica.awake
    assert engine.base_name == "base"


async def test_an_engine_that_lists_its_models_but_generates_nothing_is_lost_at_the_next_probe():
    engine = EngineTwin()
    replica = Replica(engine, 5, probe_interval_s=0)
    await replica.look()
    assert replica.awake
    engine.deaf = True
    await replica.look()
    assert not replica.awake
    engine.deaf = False
    await replica.look()
    assert replica.awake


async def test_a_ready_engine_is_not_asked_for_a_token_at_every_look():
    engine = EngineTwin()
    replica = Replica(engine, 5, probe_interval_s=60)
    for _ in range(3):
        await replica.look()
    assert engine.count("answers", "base") == 1
