from __future__ import annotations

from math import exp, log, log1p

import numpy as np
import pytest
from scipy.stats import beta

from ops.evidence.duels import Duels, log_above, log_below, log_capital
from ops.evidence.intervals import duel_interval, wilson

ALPHA, RUNS = 0.05, 4000


def upper_bound(hits: int, runs: int) -> float:
    """Clopper and Pearson's one-sided 95 % upper bound of a rate."""
    return float(beta.ppf(0.95, hits + 1, runs - hits))


def crossings(p: float, runs: int, votes: int, *, ties: float = 0.0, mean: float = 0.5, seed: int = 0) -> np.ndarray:
    """At which vote each run first has capital 1/ALPHA, looking after every vote; votes + 1 if never."""
    rng, times = np.random.default_rng(seed), []
    for _ in range(0, runs, 100):
        tied = rng.random((100, votes)) < ties
        won = (rng.random((100, votes)) < p) & ~tied
        wins, tie = won.cumsum(1), tied.cumsum(1)
        capital = log_capital(wins, tie, np.arange(1, votes + 1) - wins - tie, mean)
        above = capital >= log(1 / ALPHA)
        times.append(np.where(above.any(1), above.argmax(1) + 1, votes + 1))
    return np.concatenate(times)


def test_capital_after_one_vote_is_worked_by_hand():
    # lambda m is uniform on midpoints of [0, 1/2], mean 1/4: a win at m = 1/2 multiplies by 1 + lambda m on average
    assert exp(log_above(Duels(1, 0, 0))) == pytest.approx(1.25)
    assert exp(log_above(Duels(0, 0, 1))) == pytest.approx(0.75)
    assert log_above(Duels(0, 1, 0)) == pytest.approx(0.0)
    assert exp(log_above(Duels(1, 0, 0), 0.25)) == pytest.approx(1 + 0.25 * 3)
    assert log_above(Duels()) == pytest.approx(0.0)


def test_capital_never_falls_to_zero_as_a_bet_is_at_most_half_of_it():
    assert log_above(Duels(0, 0, 100)) >= 100 * log1p(-0.5)


def test_the_other_side_sees_the_mirror_image():
    duels = Duels(30, 4, 10)
    assert log_below(duels.swap()) == pytest.approx(log_above(duels))
    assert log_below(duels.swap(), 0.52) == pytest.approx(log_above(duels, 0.48))
    assert (duels.rate, duels.swap().rate, duels.n) == (pytest.approx(32 / 44), pytest.approx(12 / 44), 44)


@pytest.mark.parametrize("mean", [0.0, 1.0, -0.1])
def test_a_mean_that_cannot_be_tested_is_refused(mean):
    with pytest.raises(ValueError, match="mean="):
        log_above(Duels(), mean)


@pytest.mark.parametrize("ties", [0.0, 0.3])
def test_equal_adapters_looked_at_after_every_vote_win_falsely_in_at_most_alpha_of_runs(ties):
    hits = int((crossings(0.5, RUNS, 500, ties=ties, seed=1) <= 500).sum())
    assert upper_bound(hits, RUNS) <= ALPHA
    assert hits > 0  # the test has power: some runs do cross


def test_a_challenger_at_the_margin_is_not_shown_to_be_non_inferior():
    hits = int((crossings(0.48, RUNS, 500, mean=0.48, seed=2) <= 500).sum())
    assert upper_bound(hits, RUNS) <= ALPHA


@pytest.mark.parametrize(("p", "votes", "median"), [(0.55, 2000, 897), (0.62, 600, 111), (0.70, 200, 40)])
def test_a_better_adapter_wins_within_the_designs_median_votes(p, votes, median):
    assert np.median(crossings(p, 300, votes, seed=3)) <= median


@pytest.mark.parametrize(
    ("duels", "confseq"),
    [
        (Duels(700, 0, 300), (0.651629, 0.745949)),
        (Duels(15, 0, 35), (0.129556, 0.511896)),
        (Duels(5, 0, 45), (0.013021, 0.269264)),
        (Duels(100, 0, 100), (0.328923, 0.671076)),
    ],
)
def test_the_interval_is_near_confseqs_and_at_most_a_tenth_wider(duels, confseq):
    low, high = duel_interval(duels)
    assert low < duels.rate < high
    assert high - low <= 1.1 * (confseq[1] - confseq[0])
    assert abs(low - confseq[0]) < 0.07
    assert abs(high - confseq[1]) < 0.07


def test_an_interval_holds_the_means_neither_bet_rejects():
    duels = Duels(40, 6, 20)
    low, high = duel_interval(duels)
    assert log_above(duels, low) == pytest.approx(log(2 / ALPHA), abs=1e-6)
    assert log_below(duels, high) == pytest.approx(log(2 / ALPHA), abs=1e-6)


def test_before_the_first_vote_an_interval_is_everything():
    assert duel_interval(Duels()) == (0.0, 1.0)
    assert duel_interval(Duels(0, 0, 9))[0] == 0.0
    assert duel_interval(Duels(9, 0, 0))[1] == 1.0


@pytest.mark.parametrize("p", [0.5, 0.8])
def test_an_interval_watched_after_every_vote_misses_the_truth_in_at_most_alpha_of_runs(p):
    rng, runs, votes = np.random.default_rng(4), 1000, 200
    wins = (rng.random((runs, votes)) < p).cumsum(1)
    losses = np.arange(1, votes + 1) - wins
    out = np.maximum(log_capital(wins, 0 * wins, losses, p), log_capital(losses, 0 * wins, wins, 1 - p)) >= log(2 / ALPHA)
    missed = int(out.any(1).sum())
    assert upper_bound(missed, runs) <= ALPHA


def test_wilsons_interval_is_the_textbooks():
    assert wilson(7, 10) == (pytest.approx(0.3968, abs=1e-4), pytest.approx(0.8922, abs=1e-4))
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 10)[0] == 0.0
