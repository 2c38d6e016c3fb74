from __future__ import annotations

from dataclasses import replace
from math import log

import pytest

from feedback.events import RolloutChanged
from ops.deployment import Deployment
from ops.evidence.duels import Duels
from ops.evidence.weigh import Evidence, thresholds
from ops.rollout import decide, missing, refuse, start
from ops.settings import RolloutSettings

SETTINGS = RolloutSettings.model_validate(
    {
        "steps": [
            {"state": "CANARY", "coverage": 0.1, "min_users": 5, "min_seconds": 10},
            {"state": "RAMP", "coverage": 1.0, "min_users": 20, "min_seconds": 60},
        ]
    }
)
NEW = "default-v1-00000000"
T0 = 1000.0


def state(name: str, **fields: object) -> Deployment:
    defaults = {"challenger": NEW, "rollout_id": f"ro-{NEW}", "salt": "s", "rollouts": 1, "since": T0, "started": T0}
    return replace(Deployment.initial("default"), state=name, **(defaults | fields))


CANARY = state("CANARY", coverage=0.1)
LAST = state("RAMP", coverage=1.0, step=1)
GUARDRAIL = log(3 / 0.01)
"""Three guardrails share the rollback level of 0.01."""


def evidence(**fields: object) -> Evidence:
    """All that the last step asks for, unless said otherwise: log(120) on duels alone has a mean e-value of 40.67."""
    defaults = {
        "promote": {"duel": log(120), "thumbs_up": 0.0, "thumbs_down": 0.0},
        "guardrails": {"thumbs_down": 0.0, "error": 0.0, "duel": -1.0},
        "non_inferior": {"duel": log(20), "thumbs_down": log(20)},
        "duels": Duels(30, 0, 10),
        "users": {"challenger": 20, "control": 20},
        "live": True,
    }
    return Evidence(**(defaults | fields))


def test_a_challenger_starts_gated_and_exposed_to_nobody():
    change = start(Deployment.initial("default"), NEW)
    assert (change.state, change.challenger, change.coverage, change.rollouts) == ("GATED", NEW, 0.0, 1)
    assert Deployment.initial("default").after(change, T0).rollout_id == f"ro-{NEW}"


def test_a_refusal_changes_neither_the_champion_nor_the_share_of_alpha_used():
    before = replace(Deployment.initial("default"), champion="default-v3-00000000", rollouts=4, promotions=2)
    after = before.after(refuse(before, NEW, "NaN"), T0)
    assert (after.champion, after.challenger, after.rollouts, after.promotions) == ("default-v3-00000000", None, 4, 2)


def test_a_gated_challenger_waits_for_a_gateway_to_have_it_loaded():
    assert decide(state("GATED"), evidence(live=False), SETTINGS, T0 + 1) is None
    change = decide(state("GATED"), evidence(), SETTINGS, T0 + 1)
    assert (change.state, change.previous, change.step, change.coverage) == ("CANARY", "GATED", 0, 0.1)


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [({"users": {"challenger": 4, "control": 50}}, 10), ({"users": {"challenger": 50, "control": 4}}, 10), ({}, 9.9)],
)
def test_a_step_is_not_left_before_its_users_in_each_arm_and_its_seconds(fields, seconds):
    assert decide(CANARY, evidence(**fields), SETTINGS, T0 + seconds) is None


def test_a_step_is_left_for_the_next_even_when_the_evidence_is_overwhelming():
    change = decide(CANARY, evidence(promote={"duel": 500.0}), SETTINGS, T0 + 10)
    assert (change.state, change.step, change.coverage, change.champion) == ("RAMP", 1, 1.0, "base")


def test_at_the_last_step_enough_evidence_promotes():
    change = decide(LAST, evidence(), SETTINGS, T0 + 60)
    assert (change.state, change.champion, change.challenger, change.coverage) == ("PROMOTED", NEW, None, 0.0)
    assert (change.promotions, change.rollouts) == (1, 1)
    assert change.evidence["promote/duel"] == pytest.approx(log(120))


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"promote": {"duel": log(117), "thumbs_up": 0.0, "thumbs_down": 0.0}}, 60),  # mean 39.67 < 40 = 1 / (0.05 / 2)
        ({"non_inferior": {"duel": log(19.9), "thumbs_down": log(20)}}, 60),
        ({"non_inferior": {"duel": log(20), "thumbs_down": log(19.9)}}, 60),
        ({"users": {"challenger": 19, "control": 20}}, 60),
        ({}, 59),
    ],
)
def test_nothing_is_promoted_while_any_condition_is_missing(fields, seconds):
    assert decide(LAST, evidence(**fields), SETTINGS, T0 + seconds) is None
    assert len(missing(LAST, evidence(**fields), SETTINGS, T0 + seconds)) == 1


def test_later_rollouts_need_more_evidence_unless_earlier_ones_were_promoted():
    assert thresholds(LAST, SETTINGS).promotion == pytest.approx(log(40))
    third = replace(LAST, rollouts=3)
    assert thresholds(third, SETTINGS).promotion == pytest.approx(log(240))
    assert decide(third, evidence(), SETTINGS, T0 + 60) is None
    assert thresholds(replace(third, promotions=2), SETTINGS).promotion == pytest.approx(log(80))


@pytest.mark.parametrize("name", ["thumbs_down", "error", "duel"])
@pytest.mark.parametrize("deployment", [CANARY, LAST, state("HELD", coverage=0.1)], ids=["canary", "ramp", "held"])
def test_a_guardrail_rolls_back_from_every_exposure_even_against_evidence_for_promotion(deployment, name):
    assert thresholds(deployment, SETTINGS).guardrail == pytest.approx(GUARDRAIL)
    change = decide(deployment, evidence(guardrails={name: GUARDRAIL}), SETTINGS, T0 + 60)
    assert (change.state, change.challenger, change.coverage, change.champion) == ("ROLLED_BACK", NEW, 0.0, "base")
    assert f"guardrail {name}" in change.reason
    held = decide(deployment, evidence(guardrails={name: GUARDRAIL - 0.01}), SETTINGS, T0)
    assert held is None


def test_a_challenger_that_a_gateway_refused_is_rolled_back():
    change = decide(state("GATED"), evidence(refused="NaN", live=False), SETTINGS, T0)
    assert change.state == "ROLLED_BACK"
    assert "NaN" in change.reason


def test_a_sample_ratio_mismatch_holds_for_good_and_does_not_promote():
    change = decide(LAST, evidence(mismatch=log(1000)), SETTINGS, T0 + 60)
    assert (change.state, change.coverage, change.challenger) == ("HELD", 1.0, NEW)
    held = LAST.after(change, T0 + 60)
    for later in (evidence(), evidence(mismatch=log(2000))):
        assert decide(held, later, SETTINGS, T0 + 1e5) is None


def test_a_rollout_without_a_decision_expires_by_its_start_and_the_champion_stays():
    late = T0 + 14 * 86_400
    for deployment in (state("GATED"), replace(LAST, since=late - 1), state("HELD")):
        undecided = evidence(promote={"duel": 0.0}, live=False)
        assert decide(deployment, undecided, SETTINGS, late - 1) is None
        change = decide(deployment, undecided, SETTINGS, late)
        assert (change.state, change.champion, change.coverage) == ("EXPIRED", "base", 0.0)


def test_evidence_that_is_enough_on_the_last_day_still_promotes():
    assert decide(LAST, evidence(), SETTINGS, T0 + 14 * 86_400).state == "PROMOTED"


def test_without_a_challenger_there_is_nothing_to_decide():
    assert decide(Deployment.initial("default"), evidence(), SETTINGS, T0) is None


def test_steps_taken_out_of_the_settings_leave_the_rollout_at_its_last():
    one = SETTINGS.model_copy(update={"steps": SETTINGS.steps[:1]})
    assert decide(LAST, evidence(), one, T0 + 60).state == "PROMOTED"
    with pytest.raises(ValueError, match="at least 1 item"):
        RolloutSettings(steps=())


def test_a_rollout_followed_by_its_own_changes_passes_through_every_step():
    deployment, states, now = state("GATED"), [], T0
    for _ in range(4):
        now += 60
        change = decide(deployment, evidence(), SETTINGS, now)
        if isinstance(change, RolloutChanged):
            states.append((change.state, change.coverage))
            deployment = deployment.after(change, now)
    assert states == [("CANARY", 0.1), ("RAMP", 1.0), ("PROMOTED", 0.0)]
    assert deployment.champion == NEW
