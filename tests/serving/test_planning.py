"""Who answers, as a pure function."""

from __future__ import annotations

import dataclasses

import pytest

from ops.assignment import assign
from ops.deployment import Deployment
from serving.errors import Unavailable
from serving.keys import Caller
from serving.planning import choose, identify

DUELS = Deployment("default", champion="old", challenger="new", coverage=1.0, salt="s", rollout_id="ro", duels=True)


def unit_in(arm: str, deployment: Deployment = DUELS) -> str:
    return next(unit for unit in map(str, range(1000)) if assign(deployment, unit).arm == arm)


def plan(deployment: Deployment, unit: str, live: set[str], *, n: int = 1, compare: bool = False, coin: float = 0.9):
    return choose(deployment, unit, n=n, compare=compare, live=live.__contains__, coin=lambda: coin)


@pytest.mark.parametrize(("arm", "adapter"), [("challenger", "new"), ("control", "old")])
def test_everybody_gets_the_adapter_of_their_arm(arm: str, adapter: str):
    (choice,) = plan(DUELS, unit_in(arm), {"base", "old", "new"})
    assert (choice.adapter, choice.exposure.arm, choice.exposure.assigned, choice.exposure.propensity) == (adapter, arm, arm, 0.5)


def test_users_outside_the_exposure_get_two_samples_of_the_champion_for_a_comparison():
    narrow = dataclasses.replace(DUELS, coverage=0.1)
    choices = plan(narrow, unit_in("champion", narrow), {"base", "old", "new"}, n=2, compare=True)
    assert [(c.adapter, c.exposure.arm, c.exposure.coin) for c in choices] == [("old", "champion", None)] * 2
    assert [c.exposure.propensity for c in choices] == pytest.approx([0.9, 0.9])


def test_a_rollout_without_duels_compares_two_samples_of_the_assigned_adapter():
    quiet = dataclasses.replace(DUELS, duels=False)
    assert [c.adapter for c in plan(quiet, unit_in("challenger"), {"base", "old", "new"}, n=2, compare=True)] == ["new", "new"]


def test_a_duel_with_one_side_not_live_becomes_two_samples_of_what_is():
    choices = plan(DUELS, unit_in("challenger"), {"base", "old"}, n=2, compare=True)
    assert [(c.adapter, c.exposure.arm, c.exposure.fallback) for c in choices] == [("old", "control", "adapter_not_live")] * 2


@pytest.mark.parametrize("live", [set(), {"base"}])
def test_without_the_champion_nobody_answers_and_the_base_least_of_all(live):
    with pytest.raises(Unavailable):
        plan(Deployment("default", champion="old"), "u", live)


def test_a_visitor_is_one_person_whatever_user_the_browser_names():
    visitor = Caller(("default",), "visitor", visitor="v1")
    first = identify(b"k", visitor, "default", "ada", None, "hi")
    second = identify(b"k", visitor, "default", "bob", None, "hi")
    assert first == second
    assert first.unit != identify(b"k", Caller(("default",), "app", "key_1"), "default", "ada", None, "hi").unit


def test_the_same_first_words_to_two_users_are_two_conversations():
    key = Caller(("default",), "app", "key_1")
    ada, bob = (identify(b"k", key, "default", user, None, "hi") for user in ("ada", "bob"))
    assert ada.conversation != bob.conversation
    assert ada == identify(b"k", key, "default", "ada", None, "hi")


def test_a_user_of_two_projects_is_two_people():
    key = Caller(("default", "other"), "app", "key_1")
    here, there = (identify(b"k", key, project, "ada", None, "hi") for project in key.projects)
    assert (here.project, there.project) == key.projects
    assert here.unit != there.unit
    assert here.conversation != there.conversation
