"""The demo's report: what was asked, said, learned, served and decided, as JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ops.crowd import Tally
from ops.demo.facts import Facts
from ops.demo.plan import Plan
from ops.evidence.counts import challenger_of
from ops.settings import Settings


def write_report(
    path: Path,
    settings: Settings,
    plan: Plan,
    tally: Tally,
    facts: Facts,
    figures: dict[str, Any],
    stages: dict[str, float],
    seconds: float,
) -> dict[str, Any]:
    """Build the report and write it atomically. ``seconds`` runs from the prepared model to the end of the evaluation."""
    states, swaps = facts.states(), facts.swap_seconds()
    champion = facts.rollout.champion if facts.rollout is not None else "base"
    report = {
        "model": plan.model,
        "seed": plan.seed,
        "people": {"count": plan.people, "mode": plan.mode},
        "seconds": round(seconds, 1),
        "requests": tally.requests,
        "failed_requests": tally.failed_requests,
        "failures": tally.failures,
        "votes": tally.votes,
        "feedback_acknowledged": tally.feedback_acknowledged,
        "feedback_in_log": len(facts.feedback_ids),
        "joined": facts.joined,
        "adapters": [
            {
                "id": m.id,
                "parent": m.parent,
                "state": states[m.id],
                "gates": [g.model_dump() for g in m.gates],
                "requests_served": facts.served[m.id],
            }
            for m in facts.manifests()
        ],
        "reward_model": [cycle["reward_model"] for cycle in facts.cycles() if cycle.get("reward_model")],
        "rollouts": [
            {"adapter": challenger_of(change.rollout_id)}
            | change.model_dump(include={"rollout_id", "state", "reason", "evidence"})
            for change in facts.rollout_changes()
            if change.state in ("PROMOTED", "ROLLED_BACK", "EXPIRED", "HELD")
        ],
        "champion_initial": "base",
        "champion_final": champion,
        "champion_final_version": next((m.version for m in facts.manifests() if m.id == champion), 0),
        "swaps": [{"adapter": adapter, "seconds": round(value, 3)} for adapter, value in swaps.items()],
        "stages": {name: round(value, 1) for name, value in stages.items()},
    } | figures
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(report, indent=2) + "\n")
    os.replace(partial, path)
    return report


def closing_line(report: dict[str, Any], told: str) -> str:
    """For example ``champion v0 → v2, win rate 0.50 → 0.81 [0.79, 0.83], toxicity −93 %``; ``told`` is what comes last."""
    rate = report["win_rate"]
    interval = f"{rate['value']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}]"
    return f"champion v0 → v{report['champion_final_version']}, win rate 0.50 → {interval}, {told}"
