"""The short form of ``plaudit chaos log``, as a person runs it: faults of every kind, and nothing lost."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from ops.chaos.scenarios import NAMES, PLACES
from ops.process import module


def test_whatever_dies_nothing_acknowledged_is_lost_and_nothing_counts_twice():
    done = subprocess.run(module("ops.cli", "chaos", "log", "--json"), capture_output=True, text=True, timeout=240)
    report = json.loads(done.stdout)
    with_kafka = "PLAUDIT_KAFKA_HOME" in os.environ
    assert {each["name"] for each in report["not_run"]} == (set() if with_kafka else set(PLACES["real broker"].scenarios))
    shown = {each["name"]: each for each in report["scenarios"]}
    assert set(shown) | {each["name"] for each in report["not_run"]} == set(NAMES)
    for name, each in shown.items():
        assert (each["lost"], each["doubled"], each["reordered"], each["problems"]) == (0, 0, 0, []), name
        assert each["faults"] > 0, name
        assert each["acknowledged"] > 0, name
    assert shown["gateway killed"]["acknowledged"] == 2000
    assert shown["every step to the disk"]["faults"] > 100
    assert (done.returncode, report["passed"]) == (0, True)


@pytest.mark.parametrize("options", [["--only", "gateway kiled"]])
def test_a_scenario_that_there_is_not_is_named_beside_those_that_there_are(options: list[str]):
    done = subprocess.run(module("ops.cli", "chaos", "log", *options), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("plaudit: scenario 'gateway kiled': there is none; there are: gateway killed, ")
