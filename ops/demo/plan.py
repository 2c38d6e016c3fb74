"""The demo's settings: the loop's own, with numbers for minutes instead of weeks. The error levels are unchanged."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ops.crowd import Mode
from ops.domain.known import domain_of
from ops.errors import CommandError
from ops.settings import Settings, load_settings


@dataclass(frozen=True)
class Plan:
    """How much the demo may use, and how its people vote."""

    model: str = "starter"
    seed: int = 0
    people: int = 400
    mode: Mode = "taste"
    votes: int = 800
    votes_per_cycle: int = 350
    rollout_votes: int = 200
    """At most so many votes on one challenger before the demo goes on without a decision."""
    promotions: int | None = None
    """After so many the demo ends, whatever is left of votes and time; None: it goes on."""
    rollout_seconds: float = 120.0
    trickle_seconds: float = 2.0
    """While the trainer learns, somebody asks something about once in so long."""
    seconds: float = 660.0
    """The people talk and vote no longer than so; no new training cycle starts that could not end by then."""
    cycle_seconds: float = 200.0
    evaluation_prompts: int = 1000
    evaluation_seconds: float = 240.0
    """As many of the prompts are asked as this is enough for."""
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """What is set beside what every demo sets."""

    def __post_init__(self) -> None:
        least = self.votes_per_cycle + self.rollout_votes // 2
        if self.votes < least:
            raise CommandError(f"--votes={self.votes}: one training cycle and the votes on what comes of it need {least}")


PLANS = {
    "starter": Plan(),
    "smollm2": Plan(
        model="smollm2",
        people=200,
        votes=460,
        votes_per_cycle=360,
        rollout_votes=100,
        rollout_seconds=240.0,
        trickle_seconds=30.0,
        seconds=1440.0,
        cycle_seconds=1000.0,
        evaluation_prompts=256,
        evaluation_seconds=240.0,
        settings={
            # People and trainer wait for it by turns; who asks while the trainer is at work comes first, or both would stall.
            "engine": {"threads": os.cpu_count() or 1},
            # Answers as various as those that it learns from, and as long; fewer tell less, longer ones cost more.
            "sampling": {"pair_temperature": 1.0, "max_tokens": 80},
            # Shorter answers are what these people ask for; what says nothing is for other gates to see.
            "train": {"nice": 19, "ppo": {"time_budget_s": 600.0}, "gates": {"min_length_ratio": 0.1}},
        },
    ),
}
"""By the setting ``model``."""


def plan_of(model: str, seed: int, mode: Mode, votes: int | None = None) -> Plan:
    """Raises `CommandError` for a model that nobody would know what to ask, and for too few votes."""
    domain_of(model)
    plan = PLANS[model]
    return replace(plan, seed=seed, mode=mode, votes=plan.votes if votes is None else votes)


def demo_settings(data_dir: Path, models_dir: Path, port: int, plan: Plan) -> Settings:
    """Settings for one run of the demo in a data folder of its own."""
    own = dict(plan.settings)
    begin = {"min_new_votes": plan.votes_per_cycle, "min_effective_labels": 1, "poll_s": 0.5, "nice": 0}
    train = begin | own.pop("train", {})
    return load_settings(
        data_dir=data_dir,
        model_cache=models_dir,
        database_url="",
        model=plan.model,
        port=port,
        seed=plan.seed,
        metrics_port_trainer=port + 1,
        metrics_port_controller=port + 2,
        train=train,
        rollout={
            "poll_s": 0.5,
            "non_inferior": ["duel"],
            "steps": [
                {"state": "CANARY", "coverage": 0.5, "min_users": 5, "min_seconds": 1},
                {"state": "RAMP", "coverage": 1.0, "min_users": 10, "min_seconds": 1},
            ],
        },
        **own,
    )
