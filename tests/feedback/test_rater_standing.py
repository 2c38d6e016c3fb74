from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rater_votes import pair, thumb

from feedback.codec import decode, encode
from feedback.events import RaterChanged
from feedback.log import Position, Record
from feedback.raters.fall import fall_of
from feedback.raters.labels import labels_of
from feedback.raters.standing import NoSuchChange, Standing, Standings, event_of, pause, reinstate
from feedback.raters.watch import outcomes_of, pauses, watch


def record(change: RaterChanged, time: float, offset: int = 0, project: str = "p") -> Record:
    return Record(Position("control", 0, offset), event_of(change, project, time))


def story(*, drop: bool) -> list[Record]:
    """Ann is paused at 100 for votes after 50, reinstated at 200, and paused again at 300 for votes after 250."""
    first = record(pause(Standing(), "ann", "fell", 50.0, "watch", {"evidence": 1e4}), 100.0, 0)
    standings = Standings("p")
    standings.add(first)
    second = record(reinstate(standings.of("p", "ann"), "was ill", 200.0, drop=drop), 200.0, 1)
    standings.add(second)
    return [first, second, record(pause(standings.of("p", "ann"), "ann", "again", 250.0, "operator", {}), 300.0, 2)]


def heard(records: list[Record], *times: float, rater: str = "ann", project: str = "p") -> list[float]:
    standings = Standings("p")
    for each in records:
        standings.add(each)
    return [vote.time for vote in standings.heard([thumb("x", 1, rater, time=time) for time in times])]


def test_a_paused_raters_votes_since_the_fall_do_not_count_and_those_before_and_of_others_do():
    paused = story(drop=False)[:1]
    assert heard(paused, 40.0, 50.0, 60.0, 150.0) == [40.0, 50.0]
    assert heard(paused, 60.0, rater="bob") == [60.0]
    other = [record(paused[0].event.data, 100.0, project="other")]
    assert heard(other, 60.0) == [60.0]


def test_a_reinstated_raters_votes_count_again_or_are_dropped_for_ever():
    assert heard(story(drop=False)[:2], 40.0, 60.0, 200.0, 210.0) == [40.0, 60.0, 200.0, 210.0]
    assert heard(story(drop=True)[:2], 40.0, 60.0, 200.0, 210.0) == [40.0, 210.0]
    assert heard(story(drop=True), 40.0, 60.0, 210.0, 260.0) == [40.0, 210.0]  # what was dropped stays dropped


def test_votes_that_count_again_have_the_reinstatements_place_and_others_have_not():
    standings = Standings("p")
    for each in story(drop=False)[:2]:
        standings.add(each)
    before, doubted, after = standings.heard([thumb("x", 1, "ann", time=time) for time in (40.0, 60.0, 210.0)])
    assert doubted.positions[-1] == Position("control", 0, 1)
    assert {position.topic for vote in (before, after) for position in vote.positions} == {"feedback"}


@given(st.permutations([0, 1, 2, 0, 2]))
def test_a_standing_does_not_depend_on_the_order_or_number_of_the_records(order):
    records = story(drop=True)
    standings = Standings()
    for place in order:
        standings.add(records[place])
    assert standings.of("p", "ann").change == records[2].event.data
    assert standings.of("p", "ann").paused
    assert list(standings.changed("p")) == ["ann"]


def test_the_last_record_alone_tells_the_whole_standing():
    # as in a compacted topic
    assert heard(story(drop=True)[2:], 40.0, 60.0, 210.0, 260.0) == [40.0, 210.0]


def test_nobody_is_paused_twice_or_reinstated_unpaused_and_one_change_has_one_id():
    records = story(drop=False)
    standings = Standings("p")
    with pytest.raises(NoSuchChange, match="is not paused"):
        reinstate(standings.of("p", "ann"), "", 1.0, drop=False)
    standings.add(records[0])
    with pytest.raises(NoSuchChange, match="is paused already"):
        pause(standings.of("p", "ann"), "ann", "", 1.0, "operator", {})
    again = record(pause(Standing(), "ann", "fell otherwise", 51.0, "watch", {}), 101.0)
    assert again.event.id == records[0].event.id
    assert len({each.event.id for each in records}) == 3
    assert record(records[0].event.data, 1.0, project="other").event.id != records[0].event.id
    assert all(decode(*encode(each.event)) == each.event for each in records)
    assert {each.event.topic for each in records} == {"control"}


def crowd(rng: random.Random, fallen: dict[str, int], items: int = 120, raters: int = 6):
    """Everybody judges every item, one a minute, right in nine of ten; the fallen say the opposite from an item on."""
    votes = []
    for n in range(items):
        for rater in (f"r{k}" for k in range(raters)):
            right = rng.random() < 0.9 and n < fallen.get(rater, items)
            votes.append(pair(f"good {n}", f"bad {n}", "a" if right else "b", rater, time=60.0 * n))
    return votes


def test_a_rater_is_right_as_the_golden_truth_says_even_against_the_majority():
    votes = [thumb("x", 1, rater, time=1.0) for rater in "rstu"] + [thumb("x", -1, "golden", source="golden")]
    assert [(o.rater, o.right, o.golden) for o in outcomes_of(votes, votes)] == [(r, False, True) for r in "rstu"]
    assert [o.right for o in outcomes_of(votes[:4], votes[:4])] == [True] * 4


def test_ties_and_scores_and_items_of_two_raters_tell_nothing():
    tie = [pair("x", "y", "tie", rater) for rater in "rst"]
    assert outcomes_of([*tie, thumb("z", 1, "r"), thumb("z", -1, "s")], tie) == []


def test_five_fresh_accounts_do_not_make_three_known_raters_wrong():
    day = 86_400.0
    known = [thumb(f"x{n}", 1, rater, time=n * day) for n in range(5) for rater in "rst"]
    votes = known + [thumb("x4", -1, f"fresh{n}", time=4 * day + 60) for n in range(5)]
    assert all(outcome.right for outcome in outcomes_of(votes, votes) if outcome.rater in "rst")


def test_who_falls_is_paused_from_the_last_good_outcome_on_and_the_reason_says_what_was_seen():
    votes = crowd(random.Random(1), {"r2": 80})
    watched = watch(votes, Standings("p"))
    [change] = pauses(votes, Standings("p"), watched)
    fall, _ = watched.falls["r2"]
    assert (change.rater, change.state, change.by, change.change) == ("r2", "paused", "watch", 1)
    assert 60.0 * 75 <= change.since <= 60.0 * 82
    assert change.since == 60.0 * (fall.start - 1)
    said = (
        f"right on {fall.after.hits} of {fall.after.n} items (0 golden, the others by the majority), and on {fall.before.hits} of"
    )
    assert change.reason.startswith(said)
    assert change.evidence["evidence"] == fall.evidence >= 1e4


def test_after_a_reinstatement_only_what_came_later_is_held_against_a_rater():
    votes = crowd(random.Random(1), {"r2": 80})
    standings = Standings("p")
    [change] = pauses(votes, standings, watch(votes, standings))
    standings.add(record(change, 60.0 * 120, 0))
    assert watch(votes, standings).falls == {}  # paused already
    standings.add(record(reinstate(standings.of("p", "r2"), "reviewed", 60.0 * 119, drop=False), 60.0 * 119, 1))
    assert watch(votes, standings).falls == {}
    later = [
        pair(f"g {n}", f"b {n}", "b" if r == "r2" and n > 30 else "a", r, time=1e5 + n)
        for n in range(60)
        for r in ("r1", "r2", "r3")
    ]
    [second] = pauses(votes + later, standings, watch(votes + later, standings))
    assert (second.rater, second.change) == ("r2", 3)
    assert second.since == 1e5 + 30


def test_where_many_fall_at_once_nobody_is_paused_and_it_is_told():
    golden = [pair(f"g {n}", f"b {n}", "a" if n < 60 else "b", "golden", source="golden") for n in range(90)]
    votes = golden + [pair(f"g {n}", f"b {n}", "a", f"r{k}", time=float(n)) for n in range(90) for k in range(6)]
    watched = watch(votes, Standings("p"))  # the truths of the last thirty are the wrong way round
    assert watched.falls == {}
    assert set(watched.withheld) == {f"r{k}" for k in range(6)}


def test_an_unchanged_crowd_is_left_alone():
    assert watch(crowd(random.Random(2), {}, items=300), Standings("p")) == ({}, ())
    assert watch([], Standings("p")) == ({}, ())


def test_the_detector_is_asked_once_for_each_watched_rater():
    asked = []
    votes = crowd(random.Random(1), {}, items=5)
    watch(votes, Standings("p"), lambda outcomes: asked.append(len(outcomes)) or fall_of(outcomes))
    assert asked == [5] * 6
    assert len(labels_of(votes)) == 30


def test_who_is_paused_is_not_watched_on_golden_items_either():
    golden = [thumb(f"x{n}", 1, "golden", source="golden") for n in range(60)]
    votes = golden + [thumb(f"x{n}", 1 if n < 40 else -1, "ann", time=float(n)) for n in range(60)]
    standings = Standings("p")
    [change] = pauses(votes, standings, watch(votes, standings))
    assert "golden" in change.reason
    assert change.since == 39.0
    standings.add(record(change, 70.0))
    assert watch(votes, standings) == ({}, ())
