"""The demo's plans: for which models, how much time, with which settings; and that its time limits are kept."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from dataclasses import replace

import pytest
from rich.text import Text

from ops.crowd import Crowd, Tally
from ops.demo.board import live_board
from ops.demo.plan import PLANS, Plan, demo_settings, plan_of
from ops.demo.report import closing_line
from ops.demo.run import Demo, Stages
from ops.domain.general.domain import GENERAL
from ops.domain.known import DOMAINS
from ops.domain.people import crowd
from ops.errors import CommandError
from ops.settings import Settings


def settings_of(plan: Plan, tmp_path) -> Settings:
    return demo_settings(tmp_path, tmp_path / "models", 8100, plan)


def test_there_is_a_plan_for_every_model_that_has_people():
    assert PLANS.keys() == DOMAINS.keys()
    assert all(plan.model == model for model, plan in PLANS.items())
    assert plan_of("smollm2", 7, "random") == Plan(**{**PLANS["smollm2"].__dict__, "seed": 7, "mode": "random"})


def test_a_model_that_nobody_knows_is_refused_in_one_line():
    with pytest.raises(CommandError, match=r"^model 'gpt2': there are simulated people for smollm2 and starter only$"):
        plan_of("gpt2", 0, "taste")


def test_too_few_votes_for_a_cycle_and_its_rollout_are_refused():
    assert plan_of("starter", 0, "taste", 450).votes == 450
    with pytest.raises(CommandError, match=r"^--votes=449: .* need 450$"):
        plan_of("starter", 0, "taste", 449)


def test_the_starters_demo_has_the_loops_own_settings_but_for_when_to_train(tmp_path):
    settings = settings_of(plan_of("starter", 3, "taste"), tmp_path)
    assert (settings.model, settings.seed, settings.train.min_new_votes) == ("starter", 3, 350)
    assert (settings.train.ppo.steps, settings.train.gates.min_length_ratio) == (24, 0.3)
    assert (settings.rollout.alpha, settings.rollout.rollback_alpha) == (0.05, 0.01)


def test_the_demo_of_the_pretrained_model_fits_half_an_hour(tmp_path):
    plan = plan_of("smollm2", 0, "taste")
    settings = settings_of(plan, tmp_path)
    assert plan.seconds + plan.evaluation_seconds <= 1740, "a minute is left for the last questions and for stopping"
    assert settings.train.ppo.time_budget_s < plan.cycle_seconds < plan.seconds
    assert settings.train.reward.trunk == "frozen"
    assert settings.train.ppo.max_kl < settings.train.gates.max_kl_champion, "what has been learnt is not for nothing"
    assert settings.train.min_new_votes == plan.votes_per_cycle
    assert (settings.rollout.alpha, settings.rollout.rollback_alpha) == (0.05, 0.01)


def test_fewer_prompts_at_the_gates_mean_wider_intervals_and_no_looser_thresholds(tmp_path):
    own = settings_of(plan_of("smollm2", 0, "taste"), tmp_path).train.gates
    shorter_is_wanted = {"prompts", "min_length_ratio"}
    assert own.model_dump(exclude=shorter_is_wanted) == type(own)().model_dump(exclude=shorter_is_wanted)
    assert own.prompts < type(own)().prompts


def test_nobody_begins_a_vote_when_the_time_for_it_is_over():
    async def vote() -> Crowd:
        crowd_of_one = Crowd(crowd(1, domain=GENERAL), base_url="http://127.0.0.1:9/v1", api_key="none")
        await crowd_of_one.vote(5, seconds=0)
        await crowd_of_one.close()
        return crowd_of_one

    assert asyncio.run(vote()).tally.requests == 0


class Votes:
    """A crowd that votes at once, or not at all when its time is over."""

    def __init__(self) -> None:
        self.tally, self.asked = Tally(), 0

    async def vote(self, votes: int, concurrency: int = 16, seconds: float = math.inf) -> None:
        self.asked += votes
        self.tally.votes += votes if seconds > 0 else 0


class NoCycles:
    def __init__(self, promotions: int = 0) -> None:
        self.promotions = promotions

    def cycles(self) -> list[dict[str, object]]:
        return []


@pytest.mark.parametrize(("spent", "votes"), [(0.0, 350), (660.0, 0)])
def test_people_vote_no_longer_than_the_plan_says(tmp_path, spent, votes):
    plan, people, stages = plan_of("starter", 0, "taste"), Votes(), Stages()
    stages.started -= spent
    asyncio.run(Demo(settings_of(plan, tmp_path), plan, people, NoCycles(), stages)._gather())  # type: ignore[arg-type]
    assert (people.asked, people.tally.votes) == (350, votes)


@pytest.mark.parametrize(("most", "fits"), [(None, True), (2, True), (1, False)])
def test_the_demo_ends_after_as_many_promotions_as_are_planned(tmp_path, most, fits):
    plan = replace(plan_of("starter", 0, "taste"), promotions=most)
    demo = Demo(settings_of(plan, tmp_path), plan, Votes(), NoCycles(promotions=1), Stages())  # type: ignore[arg-type]
    assert demo._another_cycle_fits() == fits


def test_a_stage_is_told_when_it_begins_where_no_board_is_drawn(capsys):
    stages = Stages()
    stages.started -= 83
    with stages.stage("people vote"):
        assert capsys.readouterr().out == "1:23 people vote\n"
    assert capsys.readouterr().out == ""


def test_the_closing_line_ends_with_what_the_domain_tells():
    report = {"champion_final_version": 2, "win_rate": {"value": 0.8123, "low": 0.79, "high": 0.83}}
    assert closing_line(report, "toxicity −93 %") == "champion v0 → v2, win rate 0.50 → 0.81 [0.79, 0.83], toxicity −93 %"


def test_the_board_reads_the_loops_state_in_no_thread_of_its_own():
    read_by = []

    def render() -> Text:
        read_by.append(threading.current_thread())
        return Text("board")

    with live_board(render) as live:
        time.sleep(0.6)
        live.refresh()
    assert set(read_by) == {threading.current_thread()}
