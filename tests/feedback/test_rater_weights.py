from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rater_votes import pair, thumb
from scipy.optimize import linprog

from feedback.raters.caps import factors, nearest
from feedback.raters.flips import flips_of
from feedback.raters.weights import (
    KEY_SHARE,
    RATER_SHARE,
    Weighed,
    batch_weights,
    ramp,
    ramps,
    reliability,
)

DAY = 86_400.0


def test_a_rater_with_most_of_the_weight_is_cut_to_the_share_that_holds_afterwards():
    # of 6 + 1 + 1 + 1 the first keeps T/2 with T = 3 / (1 - 1/2) = 6
    assert factors({"a": 6.0, "b": 1.0, "c": 1.0, "d": 1.0}, 0.5) == {"a": 0.5, "b": 1.0, "c": 1.0, "d": 1.0}


def test_two_over_the_cap_share_it_and_the_cap_holds_after_both_are_cut():
    # 8 at 2/8: with two at the cap T = 6 / (1 - 2/4) = 12, so each of the two keeps 3
    found = factors({"a": 30.0, "b": 10.0, **dict.fromkeys("cdefgh", 1.0)}, 0.25)
    assert (found["a"], found["b"], found["c"]) == (pytest.approx(0.1), pytest.approx(0.3), 1.0)


def test_who_is_free_is_not_cut():
    # b may keep a tenth of 9 / (1 - 1/10) = 10
    assert factors({"": 9.0, "b": 9.0}, 0.1, free=("",)) == {"": 1.0, "b": pytest.approx(1 / 9)}


def share_of(votes: list[Weighed], **who: str) -> float:
    weights = batch_weights(votes)
    (field, name) = next(iter(who.items()))
    return sum(w for w, v in zip(weights, votes, strict=True) if getattr(v, field) == name) / sum(weights)


def test_a_key_is_cut_to_a_tenth_among_twenty_and_not_at_all_among_two():
    many = [Weighed(f"r{n}", f"k{n % 20}", 50.0 if n % 20 == 0 else 1.0) for n in range(400)]
    assert share_of(many, key_id="k0") == pytest.approx(KEY_SHARE)
    few = [Weighed(f"r{n}", f"k{n % 2}", 50.0 if n % 2 == 0 else 1.0) for n in range(400)]
    assert share_of(few, key_id="k0") == pytest.approx(50 / 51)


def test_votes_without_a_key_are_not_taken_for_one_keys():
    votes = [Weighed(f"r{n}", "" if n < 900 else f"k{n % 25}", 1.0) for n in range(1000)]
    assert share_of(votes, key_id="") == pytest.approx(0.9)
    votes += [Weighed(f"s{n}", "k0", 1.0) for n in range(300)]  # of 996 others it may have a ninth
    assert share_of(votes, key_id="k0") == pytest.approx(0.1)
    assert share_of(votes, key_id="") == pytest.approx(0.9 * 900 / 996)


def test_both_caps_hold_at_once_where_cutting_one_breaks_the_other():
    # 200 raters and 20 keys: rater "r0" is cut first, so key "k1" has too much of what is left
    votes = [Weighed(f"r{n}", f"k{n % 20}", 1.0 + 300 * (n == 0) + 5 * (n % 20 == 1)) for n in range(240)]
    assert share_of(votes, rater="r0") <= RATER_SHARE * (1 + 1e-6)
    assert share_of(votes, key_id="k1") == pytest.approx(KEY_SHARE)
    assert share_of(votes, key_id="k0") <= KEY_SHARE


BATCHES = st.lists(
    st.builds(
        Weighed,
        st.integers(0, 30).map(lambda n: f"r{n}"),
        st.integers(0, 30).map(lambda n: f"k{n}" if n else ""),
        st.floats(0, 1e6, allow_subnormal=False).map(lambda x: x if x > 1e-6 else 0.0),
    ),
    max_size=60,
)


ONE_RATER_WITH_MANY_KEYS = [Weighed("r1", f"k{n}", 1.0) for n in range(1, 20)]
ONE_RATER_WITH_MANY_KEYS += [Weighed(f"r{n}", "k0", 1.0) for n in range(2, 300)]


def feasible(pairs: set[tuple[str, str]], rater_share: float, key_share: float) -> bool:
    """Whether any weights on the pairs keep both shares (given with a margin), by linear programming."""
    cells = sorted(pairs)
    rows, limits = [], []
    for side, share in ((0, rater_share), (1, key_share)):
        for name in sorted({cell[side] for cell in cells}):
            if side == 0 or name:
                rows.append([float(cell[side] == name) for cell in cells])
                limits.append(share)
    return linprog(np.zeros(len(cells)), rows, limits, [np.ones(len(cells))], [1.0]).status == 0


@settings(max_examples=150, deadline=None)
@given(BATCHES, st.randoms())
@example(
    [Weighed("r1", f"k{n}", 1.0) for n in range(1, 20)] + [Weighed(f"r{n}", "k0", 1.0) for n in range(2, 31)], random.Random(1)
)
def test_the_caps_hold_for_any_votes_that_let_them_the_mean_is_one_and_order_is_nothing(votes, rng):
    weights = batch_weights(votes)
    assert all(weight >= 0 for weight in weights)
    heard = [vote for vote in votes if vote.weight > 0]
    if not heard:
        assert weights == [0.0] * len(votes)
        return
    total = sum(weights)
    assert total == pytest.approx(len(votes))
    places = rng.sample(range(len(votes)), len(votes))
    assert batch_weights([votes[place] for place in places]) == [weights[place] for place in places]

    rater_share = max(RATER_SHARE, 2 / len({vote.rater for vote in heard}))
    key_share = max(KEY_SHARE, 2 / len({vote.key_id for vote in heard}))
    if feasible({(vote.rater, vote.key_id) for vote in heard}, 0.98 * rater_share, 0.98 * key_share):
        for vote in heard:
            assert sum(w for w, v in zip(weights, votes, strict=True) if v.rater == vote.rater) <= rater_share * total * (
                1 + 1e-6
            )
            if vote.key_id:
                of_key = sum(w for w, v in zip(weights, votes, strict=True) if v.key_id == vote.key_id)
                assert of_key <= key_share * total * (1 + 1e-6)


def test_one_rater_who_is_most_keys_is_heard_though_no_weights_could_keep_the_caps():
    weights = batch_weights(ONE_RATER_WITH_MANY_KEYS)
    assert sum(weights) == pytest.approx(len(weights))
    assert max(weights) < 60


def test_a_newcomer_rises_to_a_full_weight_with_days_and_votes():
    assert ramp(10, 3 * DAY) == ramp(99, 99 * DAY) == 1.0
    assert ramp(10, 1.5 * DAY) == pytest.approx(0.5)
    assert ramp(0, 3 * DAY) == pytest.approx(0.3)
    assert ramp(5, 3 * DAY) == pytest.approx(0.65)
    assert ramp(10, 0.0) == ramp(10, 3_600.0) == pytest.approx(1 / 72)


def test_the_ramp_is_of_the_newest_votes_time_not_of_the_clock():
    votes = [thumb("x", 1, "old", time=0.0), thumb("x", 1, "new", time=3 * DAY)]
    assert ramps(votes) == {"old": pytest.approx(0.37), "new": pytest.approx(0.37 / 72)}
    assert ramps([]) == {}


def test_a_rater_weighs_as_much_less_as_they_flip():
    assert [reliability(flip) for flip in (0.0, 0.1, 0.5, 0.9)] == [1.0, 0.8, 0.0, 0.0]


def win_rate(votes) -> float:
    """The weighted share of pairs that the first content won."""
    share, flips = ramps(votes), flips_of(votes)
    trust = {rater: share[rater] * reliability(flips.heard(rater)) for rater in share}
    weights = batch_weights([Weighed(vote.rater, vote.key_id, trust[vote.rater]) for vote in votes])
    return float(np.average([vote.judgement.value == "a" for vote in votes], weights=weights))


def test_five_hundred_fresh_raters_of_one_key_move_the_win_rate_by_less_than_a_point():
    rng = random.Random(3)
    honest = [
        pair(f"x{n}", f"y{n}", rng.choice("ab"), f"user-{n % 1000}", key_id=f"key-{n % 4}", time=rng.uniform(0, 30 * DAY))
        for n in range(2000)
    ]
    now = 30 * DAY + 600
    fresh = [pair(f"s{n}", f"t{n}", "a", f"sybil-{n % 500}", key_id="key-0", time=now) for n in range(500)]
    before, after = win_rate(honest), win_rate([*honest, *fresh])
    naive = (before * 2000 + 500) / 2500
    assert naive - before > 0.09
    assert abs(after - before) < 0.01


def test_a_thousand_votes_of_old_accounts_of_one_key_among_many_move_it_by_no_more_than_the_keys_share():
    rng = random.Random(4)
    honest = [
        pair(f"x{n}", f"y{n}", rng.choice("ab"), f"user-{n % 600}", key_id=f"key-{n % 30}", time=n * 60.0) for n in range(1800)
    ]
    old = [pair(f"s{n}", f"t{n}", "a", f"sleeper-{n % 500}", key_id="evil", time=n * 60.0) for n in range(1800)]
    before, after = win_rate(honest), win_rate([*honest, *old])
    assert after - before == pytest.approx(KEY_SHARE * (1 - before), abs=0.002)  # unbounded it would be 25 points


def test_the_nearest_weights_keep_the_caps_and_move_as_little_as_can_be():
    # a has 0.6 and may have 0.5: the tenth must go to b or c
    found = nearest({("a", ""): 6.0, ("b", ""): 2.0, ("c", ""): 2.0}, 0.5, 1.0)
    assert found["a", ""] == pytest.approx(0.5)
    assert sum(found.values()) == pytest.approx(1.0)
    assert nearest({("a", "k"): 1.0, ("b", "k"): 1.0}, 0.5, 0.9) is None
