"""The demo's settings: the loop's own, with numbers for minutes instead of weeks. The error levels are unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ops.crowd import Mode
from ops.settings import Settings, load_settings


@dataclass(frozen=True)
class Plan:
    """How much the demo may use, and how its people vote."""

    seed: int = 0
    people: int = 400
    mode: Mode = "taste"
    votes: int = 800
    votes_per_cycle: int = 350
    rollout_votes: int = 200
    """At most so many votes on one challenger before the demo goes on without a decision."""
    seconds: float = 660.0
    """The people talk and vote no longer than so; no new training cycle starts that could not end by then."""
    cycle_seconds: float = 200.0
    evaluation_prompts: int = 1000


def demo_settings(data_dir: Path, models_dir: Path, port: int, plan: Plan) -> Settings:
    """Settings for one run of the demo in a data folder of its own."""
    return load_settings(
        data_dir=data_dir,
        model_cache=models_dir,
        database_url="",
        model="starter",
        port=port,
        seed=plan.seed,
        metrics_port_trainer=port + 1,
        metrics_port_controller=port + 2,
        train={"min_new_votes": plan.votes_per_cycle, "min_effective_labels": 1, "poll_s": 0.5, "nice": 0},
        rollout={
            "poll_s": 0.5,
            "non_inferior": ["duel"],
            "steps": [
                {"state": "CANARY", "coverage": 0.5, "min_users": 5, "min_seconds": 1},
                {"state": "RAMP", "coverage": 1.0, "min_users": 10, "min_seconds": 1},
            ],
        },
    )
