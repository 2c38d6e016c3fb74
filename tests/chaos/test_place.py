from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from ops.chaos.mock_kafka import MockCluster
from ops.chaos.place import main as run_place
from ops.chaos.scenario import NotRun


def test_without_the_mock_clusters_package_its_scenarios_are_not_run_and_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotRun, match="pip install confluent-kafka"):
        MockCluster()
    run_place("mock brokers", "short", tmp_path, ["brokers down"])
    assert '"not_run": "the Python package confluent-kafka is not installed' in (tmp_path / "said.jsonl").read_text()
