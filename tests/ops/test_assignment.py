from __future__ import annotations

import hashlib
from dataclasses import replace
from math import sqrt

import pytest

from feedback.events import RolloutChanged
from ops.assignment import assign, bucket_of, sides
from ops.deployment import Deployment, rollout_of, salt_of

UNITS = [f"user-{i}" for i in range(20_000)]
RUNNING = Deployment("p", challenger="p-v1-00000000", coverage=0.1, salt="s", rollout_id="ro-p-v1-00000000", state="CANARY")


def test_a_bucket_is_the_first_53_bits_of_sha256_of_salt_and_unit():
    digest = hashlib.sha256(b"s\0u").hexdigest()
    assert bucket_of("s", "u") == pytest.approx(int(digest[:16], 16) / 2**64, abs=2**-53)
    assert 0 <= bucket_of("s", "u") < 1


def test_without_a_challenger_everybody_gets_the_champion_with_propensity_one():
    for deployment in (Deployment.initial("p"), replace(RUNNING, coverage=0.0), replace(RUNNING, challenger=None)):
        got = assign(deployment, "u")
        assert (got.arm, got.adapter, got.propensity, got.propensities) == ("champion", "base", 1.0, {"champion": 1.0})


def test_the_challenger_has_the_first_half_of_the_coverage_and_the_control_the_same_from_one_half():
    deployment = replace(RUNNING, coverage=0.5)
    for unit in UNITS[:2000]:
        got = assign(deployment, unit)
        expected = "challenger" if got.bucket < 0.25 else "control" if 0.5 <= got.bucket < 0.75 else "champion"
        assert got.arm == expected
        assert got.adapter == ("p-v1-00000000" if expected == "challenger" else "base")
        assert got.propensity == (0.5 if expected == "champion" else 0.25)
        assert got.propensities == {"champion": 0.5, "control": 0.25, "challenger": 0.25}


@pytest.mark.parametrize("coverage", [0.02, 0.1, 0.5, 1.0])
def test_shares_are_the_logged_propensities(coverage):
    arms = [assign(replace(RUNNING, coverage=coverage), unit).arm for unit in UNITS]
    for arm, p in (("challenger", coverage / 2), ("control", coverage / 2), ("champion", 1 - coverage)):
        spread = 4 * sqrt(p * (1 - p) / len(UNITS))
        assert arms.count(arm) / len(UNITS) == pytest.approx(p, abs=spread + 1e-12)


def test_ramping_never_moves_a_user_out_of_an_arm():
    before = dict.fromkeys(UNITS[:5000], "champion")
    for coverage in (0.02, 0.1, 0.2, 0.5, 1.0):
        for unit in before:
            arm = assign(replace(RUNNING, coverage=coverage), unit).arm
            assert before[unit] in ("champion", arm)
            before[unit] = arm
    assert "champion" not in before.values()


def test_another_salt_puts_users_into_arms_independently():
    full = replace(RUNNING, coverage=1.0)
    same = sum(assign(full, u).arm == assign(replace(full, salt="t"), u).arm for u in UNITS)
    assert same / len(UNITS) == pytest.approx(0.5, abs=4 * sqrt(0.25 / len(UNITS)))


def test_the_coin_decides_who_is_shown_first():
    assert sides(0.0) == (0, 1)
    assert sides(0.4999) == (0, 1)
    assert sides(0.5) == (1, 0)


def deployed(*changes: dict[str, object]) -> Deployment:
    """After these changes, at 1, 2, … seconds."""
    deployment = Deployment.initial("p")
    usual = {"rollout_id": "ro-x", "state": "GATED", "challenger": "x", "salt": "s", "rollouts": 1}
    for time, change in enumerate(changes, start=1):
        deployment = deployment.after(RolloutChanged(**usual | change), float(time))
    return deployment


def test_a_deployment_is_folded_from_changes():
    assert deployed({}, {"state": "RAMP", "coverage": 0.5, "step": 1}) == Deployment(
        "p",
        challenger="x",
        coverage=0.5,
        salt="s",
        rollout_id="ro-x",
        duels=True,
        state="RAMP",
        rollouts=1,
        step=1,
        since=2.0,
        started=1.0,
    )


@pytest.mark.parametrize("state", ["ROLLED_BACK", "EXPIRED", "REFUSED"])
def test_an_ended_rollout_exposes_nobody_though_its_last_event_names_the_challenger(state):
    deployment = deployed({}, {"state": state, "coverage": 0.5})
    assert (deployment.challenger, deployment.coverage, deployment.rollout_id, deployment.champion) == (None, 0.0, None, "base")
    assert assign(deployment, "u").adapter == "base"


def test_a_promotion_makes_the_challenger_the_champion_of_all():
    deployment = deployed({}, {"state": "PROMOTED", "champion": "x", "challenger": None, "promotions": 1})
    assert (deployment.champion, deployment.challenger, deployment.promotions) == ("x", None, 1)
    assert {assign(deployment, unit).adapter for unit in UNITS[:100]} == {"x"}


def test_a_rollouts_salt_follows_from_its_adapter_and_differs_from_others():
    assert salt_of(rollout_of("a")) == salt_of(rollout_of("a"))
    assert salt_of(rollout_of("a")) != salt_of(rollout_of("b"))
