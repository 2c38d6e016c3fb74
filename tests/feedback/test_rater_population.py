"""What a rater's votes say of them, held against the whole population."""

from __future__ import annotations

import random

import pytest
from rater_votes import pair, thumb

from feedback.raters.flips import flips_of
from feedback.raters.population import PRIOR, population
from feedback.raters.report import rater_reports
from feedback.raters.standing import Standings


def honest(rng: random.Random, votes: int, flip: float = 0.0) -> list[float]:
    """How plausible each vote was, of a rater who flips: what was foretold with probability 0.85 comes in 85 of 100."""
    return [0.85 if (rng.random() < 0.85) != (rng.random() < flip) else 0.15 for _ in range(votes)]


def test_before_anybody_has_voted_one_vote_in_ten_is_expected_to_be_flipped():
    nobody = population({})
    assert PRIOR.sum() == pytest.approx(1)
    assert nobody.mean == pytest.approx(0.1, abs=0.002)
    assert nobody.heard("stranger") == nobody.mean


def test_sixteen_votes_tell_the_liars_among_a_hundred_raters_and_accuse_nobody_else():
    rng = random.Random(1)
    plausible = {f"honest-{n}": honest(rng, 16, 0.05) for n in range(80)}
    plausible |= {f"liar-{n}": honest(rng, 16, 1.0) for n in range(20)}
    found = population(plausible)
    caught = {rater for rater, doubt in found.doubts.items() if doubt > 0.95}
    assert caught == {f"liar-{n}" for n in range(20)}
    assert all(found.heard(f"liar-{n}") == 0.5 for n in range(20))
    assert max(found.heard(f"honest-{n}") for n in range(80)) < 0.3
    assert 0.15 < found.mean < 0.3


def test_one_odd_vote_makes_nobody_a_liar():
    found = population({"odd": [0.02], "even": [0.98]})
    assert 0.1 < found.heard("odd") < 0.45
    assert found.doubts["odd"] < 0.5
    assert found.heard("even") < 0.1


def test_votes_of_which_nothing_is_known_say_nothing_of_their_rater():
    alone = population({"ann": [0.5] * 30})
    assert alone.heard("ann") == pytest.approx(population({}).mean, abs=1e-9)


def test_the_population_does_not_depend_on_the_order_of_raters_and_votes():
    one = population({"ann": [0.9, 0.2, 0.7], "bob": [0.4]})
    other = population({"bob": [0.4], "ann": [0.7, 0.9, 0.2]})
    assert one == other


def test_who_contradicts_all_others_is_told_by_overlap_alone():
    votes = [thumb(f"x{n}", 1 if rater != "eve" else -1, rater) for n in range(20) for rater in ("ann", "bob", "cid", "eve")]
    found = flips_of(votes)
    assert found.heard("eve") == 0.5
    assert max(found.heard(rater) for rater in ("ann", "bob", "cid")) < 0.1
    reports = rater_reports(votes, Standings("p"))
    assert reports["ann"].doubt < 0.01 < 0.99 < reports["eve"].doubt


def test_a_golden_item_tells_who_flips_where_nobody_overlaps():
    golden = [pair(f"x{n}", f"y{n}", "a", "keeper", source="golden") for n in range(20)]
    answers = [pair(f"x{n}", f"y{n}", "a" if n < 10 else "b", "ann" if n < 10 else "eve") for n in range(20)]
    found = flips_of([*golden, *answers])
    assert found.heard("eve") == 0.5 > 5 * found.heard("ann")
    assert "keeper" not in found.flips


def test_what_a_model_foretold_tells_who_flips_where_there_is_neither_overlap_nor_gold():
    # sides differ, and so do the items' own orders: only what was said counts
    votes = [pair(f"{'xz'[n % 2]}{n}", f"y{n}", "ab"[n % 2], "ann" if n < 12 else "eve") for n in range(24)]
    foretold = {vote.feedback_id: 0.95 if vote.rater == "ann" else 0.05 for vote in votes}
    found = flips_of(votes, foretold)
    assert found.heard("ann") < 0.1
    assert found.heard("eve") == 0.5
    assert flips_of(votes).heard("eve") == pytest.approx(flips_of(votes).mean)


def test_a_vote_is_no_witness_for_itself():
    # two who agree on every item, and a model that knows better of each
    votes = [thumb(f"x{n}", 1, rater) for n in range(12) for rater in ("ann", "bob")]
    foretold = {vote.feedback_id: 0.02 for vote in votes}
    found = flips_of(votes, foretold)
    assert found.heard("ann") == pytest.approx(found.heard("bob"))
    alone = flips_of([vote for vote in votes if vote.rater == "ann"], foretold)
    assert alone.heard("ann") == 0.5
