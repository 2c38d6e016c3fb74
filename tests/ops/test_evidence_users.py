from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
from scipy.stats import beta

from ops.evidence.combine import alpha_at, gamma, log_mean
from ops.evidence.duels import log_capital
from ops.evidence.srm import log_mismatch, log_mismatches
from ops.evidence.users import EFFECTS, Firsts, log_decrease, log_increase, log_mixture, log_not_above

ALPHA, RUNS = 0.05, 4000


def half(challenger: int, control: int) -> Firsts:
    return Firsts({0.5: (challenger, control)})


def upper_bound(hits: int, runs: int) -> float:
    return float(beta.ppf(0.95, hits + 1, runs - hits))


def paths(rng: np.random.Generator, runs: int, events: int, p: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Running counts (challenger's, control's), (runs, events), when a first event is the challenger's with probability p."""
    challenger = (rng.random((runs, events)) < p).cumsum(1)
    return challenger, np.arange(1, events + 1) - challenger


def test_one_event_of_the_challenger_is_worked_by_hand():
    effects = [0.05 + j * 1.45 / 14 for j in range(15)]
    expected = sum(exp(g) / (0.5 * exp(g) + 0.5) for g in effects) / 15
    assert exp(log_increase(half(1, 0))) == pytest.approx(expected)
    assert exp(log_decrease(half(0, 1))) == pytest.approx(expected)  # at rho = 1/2 a decrease is the mirror image
    assert log_increase(half(0, 0)) == pytest.approx(0.0)


def test_an_event_counts_for_less_in_an_arm_that_most_users_are_in():
    assert log_increase(Firsts({0.9: (1, 0)})) < log_increase(half(1, 0)) < log_increase(Firsts({0.1: (1, 0)}))


def test_an_expected_factor_is_one_at_the_boundary_of_each_hypothesis():
    for rho in (0.5, 0.3):
        for test, theta in ((log_increase, 1.0), (log_decrease, 1.0), (lambda f: log_not_above(f, 1.1), 1.1)):
            p = rho * theta / (rho * theta + 1 - rho)
            one, other = exp(test(Firsts({rho: (1, 0)}))), exp(test(Firsts({rho: (0, 1)})))
            assert p * one + (1 - p) * other == pytest.approx(1.0)


def test_non_inferiority_is_easier_to_show_than_a_decrease():
    assert log_not_above(half(40, 60), 1.1) > log_decrease(half(40, 60))
    assert log_not_above(half(60, 40), 1.1) < 0


def crossed(logs: np.ndarray) -> int:
    """Runs in which the evidence is 1/ALPHA at some time."""
    return int((logs >= log(1 / ALPHA)).any(1).sum())


@pytest.mark.parametrize(("sign", "test"), [(1, log_increase), (-1, log_decrease)], ids=["increase", "decrease"])
def test_equal_rates_looked_at_after_every_event_are_told_apart_in_at_most_alpha_of_runs(sign, test):
    challenger, control = paths(np.random.default_rng(1), RUNS, 300)
    logs = log_mixture({0.5: (challenger, control)}, sign * EFFECTS)
    assert logs[7, 99] == pytest.approx(test(half(challenger[7, 99], control[7, 99])))
    assert crossed(logs) > 0  # some do: the test has power
    assert upper_bound(crossed(logs), RUNS) <= ALPHA


def test_a_rate_at_the_margin_is_not_shown_to_be_non_inferior():
    counts = {0.5: paths(np.random.default_rng(2), RUNS, 300, p=1.1 / 2.1)}
    logs = log_mixture(counts, log(1.1) - EFFECTS) - log_mixture(counts, np.array([log(1.1)]))
    assert upper_bound(crossed(logs), RUNS) <= ALPHA


def test_a_doubled_rate_of_thumbs_down_is_found_within_two_hundred_users_most_of_the_time():
    logs = log_mixture({0.5: paths(np.random.default_rng(3), 500, 200, p=2 / 3)}, EFFECTS)
    assert crossed(logs) > 0.9 * 500


def test_the_promotion_rule_itself_looked_at_after_every_user_is_wrong_in_at_most_alpha_of_runs():
    rng, runs, users = np.random.default_rng(4), RUNS, 200
    wins, losses = paths(rng, runs, users)
    logs = [
        log_capital(wins, 0 * wins, losses, 0.5),
        log_mixture({0.5: paths(rng, runs, users)}, EFFECTS),
        log_mixture({0.5: paths(rng, runs, users)}, -EFFECTS),
    ]
    combined = np.logaddexp.reduce(logs, axis=0) - log(3)
    assert log_mean([float(part[7, 99]) for part in logs]) == pytest.approx(combined[7, 99])
    assert crossed(combined) > 0
    assert upper_bound(crossed(combined), runs) <= ALPHA


def test_rollouts_share_alpha_and_a_promotion_earns_more_of_it():
    assert [gamma(t) for t in (1, 2, 3)] == [pytest.approx(1 / 2), pytest.approx(1 / 6), pytest.approx(1 / 12)]
    assert sum(gamma(t) for t in range(1, 100_000)) == pytest.approx(1, abs=1e-4)
    assert alpha_at(1, 0, ALPHA) == pytest.approx(0.025)
    assert alpha_at(3, 2, ALPHA) == pytest.approx(0.0125)
    with pytest.raises(ValueError, match="counted from 1"):
        gamma(0)


@pytest.mark.parametrize(("counts", "p"), [([500, 500], 1.0488), ([100, 900], 2.3679e-13)])
def test_a_mismatch_at_ssrms_concentration_gives_ssrms_figures(counts, p):
    assert exp(-log_mismatch(counts, [0.5, 0.5], [10_000.0])) == pytest.approx(p, rel=1e-4)


def test_a_mismatch_of_one_unit_says_nothing_and_of_ninety_percent_all():
    assert log_mismatch([1, 0], [0.5, 0.5]) == pytest.approx(0.0)
    assert log_mismatch([0, 0], [0.5, 0.5]) == pytest.approx(0.0)
    assert log_mismatch([500, 500], [0.5, 0.5]) < 0
    assert log_mismatch([100, 900], [0.5, 0.5]) > log(1e100)
    with pytest.raises(ValueError, match="do not fit"):
        log_mismatch([1, 1], [0.5, 0.6])


def test_a_mismatch_looked_at_after_every_unit_is_seen_falsely_in_at_most_alpha_of_runs():
    counts = np.stack(paths(np.random.default_rng(5), RUNS, 400), axis=-1)
    logs = log_mismatches(counts, [0.5, 0.5])
    assert logs[7, 99] == pytest.approx(log_mismatch(counts[7, 99], [0.5, 0.5]))
    assert upper_bound(crossed(logs), RUNS) <= ALPHA
