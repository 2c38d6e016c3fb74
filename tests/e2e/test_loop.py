"""The whole loop as its users see it: chat, vote, cycle, swap, promotion; every process real, over HTTP only."""

from __future__ import annotations

import json

import pytest

from ops.demo.plan import Plan
from ops.demo.run import run_demo


@pytest.mark.timeout(800)
def test_votes_become_a_better_champion_without_a_failed_request(starter, model_cache, tmp_path, free_port, monkeypatch, capsys):
    """Gates with a margin of a standard error refuse a good adapter of so few votes now and then: then there are more votes."""
    monkeypatch.setenv("PLAUDIT_TRAIN__PPO__STEPS", "18")
    monkeypatch.setenv("PLAUDIT_TRAIN__PPO__PROMPTS_PER_STEP", "16")
    few = {"votes": 1500, "votes_per_cycle": 400, "rollout_votes": 300, "promotions": 1}
    plan = Plan(seed=3, seconds=500, cycle_seconds=60, evaluation_prompts=300, **few)
    report = run_demo(tmp_path / "data", model_cache, free_port, plan, tmp_path / "report.json")
    assert report["failed_requests"] == 0, report["failures"]
    assert report["feedback_acknowledged"] == report["feedback_in_log"] == report["joined"] == report["votes"] > 0
    promoted = [r for r in report["rollouts"] if r["state"] == "PROMOTED"]
    assert len(promoted) == 1, report["rollouts"]
    assert report["champion_final"] == promoted[-1]["adapter"]
    assert report["win_rate"]["low"] > 0.5
    assert report["toxicity"]["final"] < report["toxicity"]["initial"]
    assert {swap["adapter"] for swap in report["swaps"]} >= {promoted[-1]["adapter"]}
    assert next(a for a in report["adapters"] if a["id"] == report["champion_final"])["requests_served"] > 0
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert capsys.readouterr().out.splitlines()[-1].startswith("champion v0 → v")
