"""What the controller tells: status, metrics, and its command."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from controller_world import USERS, World

from ops import metrics
from ops.controller import status as status_of_settings


def test_status_is_json_with_rates_intervals_evidence_and_history(world):
    manifest = world.to_canary()
    world.duel(USERS[:60], prefers=1.0)
    status = json.loads(json.dumps(world.controller.status(), allow_nan=False))
    rate = status["win_rate"]
    assert rate["n"] == status["duels"]["wins"] > 20
    assert 0.5 < rate["low"] < rate["value"] == rate["high"] == 1.0
    assert status["alpha"] == pytest.approx(0.025)
    assert status["thresholds"]["promotion"] == pytest.approx(np.log(40))
    assert sum(status["users"].values()) == rate["n"]
    assert status["challenger"] == manifest.id
    assert list(status["history"][0].values())[:4] == [f"ro-{manifest.id}", manifest.id, status["state"], status["reason"]]
    assert [wait for wait in status["waiting_for"] if "more users in" in wait]


def test_a_tick_shows_state_and_evidence_as_metrics(world):
    world.to_canary()
    text = metrics.render(metrics.CONTROLLER).decode()
    assert 'plaudit_rollout_state{project="default",state="CANARY"} 1.0' in text
    assert 'plaudit_rollout_state{project="default",state="GATED"} 0.0' in text
    assert 'plaudit_rollout_log_evidence{project="default",test="promotion"}' in text


def command(world: World, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "ops.cli", *arguments, "--data-dir", str(world.root)]


def test_one_run_of_the_command_prints_what_it_decided_and_status_shows_it(world):
    manifest = world.publish()
    done = subprocess.run(command(world, "control", "--once", "--json"), capture_output=True, text=True, timeout=60, check=True)
    assert [event["data"]["challenger"] for event in json.loads(done.stdout)] == [manifest.id]
    assert status_of_settings(world.settings)["state"] == "GATED"


@pytest.mark.timeout(60)
def test_the_process_survives_a_registry_that_cannot_be_read_and_ends_at_sigterm(world):
    world.registry.root.write_text("in the way")
    environment = os.environ | {"PLAUDIT_ROLLOUT__POLL_S": "0.05", "PLAUDIT_METRICS_PORT_CONTROLLER": "0"}
    process = subprocess.Popen(command(world, "control"), env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert "tick_failed" in process.stderr.readline()
        world.registry.root.unlink()
        world.publish()
        assert any("rollout_changed" in line for line in process.stderr)
        assert world.states() == ["GATED"]
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()
