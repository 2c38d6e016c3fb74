"""Golden items among the tasks, and the entry test of them."""

from __future__ import annotations

import pytest
from label_world import World, annotator

from serving.errors import Forbidden
from serving.labeling.plan import EntryTest
from serving.labeling.queue import entry_verdict
from serving.labeling.statistics import rater_views
from serving.labeling.views import LabelTask


def test_golden_items_come_at_the_set_rate_and_look_like_all_others(w: World):
    w.answered("x0", "x1", "x2")
    stream = w.stream(golden_rate=0.5, source={"rule": "listed"})
    w.golden(stream, 1, "x0")
    w.items(stream, "x1", "x2")
    w.coins = [0.0, 0.5]  # which real item; 0.5 is not below the rate
    assert w.thumb(stream, 1) == "x1"
    w.coins = [0.0, 0.4]  # 0.4 is
    handed = w.task(stream)
    assert handed.shown[0].place.completion_id == "x0"
    shown = LabelTask.of(handed).model_dump()
    assert set(shown) == set(LabelTask.model_fields)
    assert "golden" not in str(shown)
    w.say(handed, type="rating", value=-1)
    assert [(fact.target.id, fact.source) for fact in w.facts()] == [("x1", "annotator"), ("x0", "annotator")]
    (figures,) = (row.figures for row in rater_views(w.streams, stream))
    assert (figures.golden, figures.golden_accuracy) == (1, 0.0)


def test_golden_items_do_not_go_on_when_there_is_nothing_else_to_judge(w: World):
    w.answered("x1", "x2")
    stream = w.stream(golden_rate=0.5, source={"rule": "listed"})
    w.golden(stream, 1, "x1")
    assert w.next(stream) is None


def test_the_entry_test_comes_first_and_opens_the_stream_to_who_passes(w: World):
    w.answered("g1", "g2", "g3")
    stream = w.stream(entry_test={"items": 2, "share": 0.5}, source={"rule": "listed"})
    w.golden(stream, 1, "g1")
    w.golden(stream, 1, "g2")
    w.items(stream, "g3")
    assert {w.thumb(stream, 1), w.thumb(stream, -1)} == {"g1", "g2"}
    assert w.queue.passed(stream, w.desk.rater(annotator("ann"), "default")) is True
    assert w.thumb(stream, 1) == "g3"


def test_who_fails_the_entry_test_gets_no_more_and_a_skipped_item_is_not_right(w: World):
    w.answered("g1", "g2", "x1")
    stream = w.stream(entry_test={"items": 2, "share": 0.6}, source={"rule": "listed"})
    w.golden(stream, 1, "g1")
    w.golden(stream, 1, "g2")
    w.items(stream, "x1")
    w.thumb(stream, 1)
    w.say(w.task(stream), type="skip", reason="unclear")
    with pytest.raises(Forbidden) as told:
        w.next(stream)
    assert told.value.code == "entry_test_failed"


def test_another_golden_item_comes_in_place_of_one_that_was_skipped_in_the_entry_test(w: World):
    w.answered("g1", "g2", "g3", "x1")
    stream = w.stream(entry_test={"items": 2, "share": 1.0}, source={"rule": "listed"})
    for name in ("g1", "g2", "g3"):
        w.golden(stream, 1, name)
    w.items(stream, "x1")
    rater = w.desk.rater(annotator("ann"), "default")
    w.say(w.task(stream), type="skip", reason="no_expertise")
    golden = w.thumb(stream, 1)
    assert golden in ("g1", "g2", "g3")
    assert (w.queue.passed(stream, rater), rater_views(w.streams, stream)[0].admitted) == (None, None), "a skip is no pass"
    assert w.thumb(stream, 1) in {"g1", "g2", "g3"} - {golden}
    assert (w.queue.passed(stream, rater), rater_views(w.streams, stream)[0].admitted) == (True, True)
    assert w.thumb(stream, 1) == "x1"


@pytest.mark.parametrize(
    ("right", "skipped", "left", "verdict"),
    [
        ([True, True, False], 0, 0, True),  # 2 of 3 are enough for 0.6
        ([True, False, False], 0, 5, False),
        ([True, True], 0, 0, None),  # the operator has not made enough
        ([True, True], 1, 1, None),
        ([True, True], 1, 0, True),  # 2 right of 3 that were shown
        ([True], 2, 0, False),
        ([], 3, 0, False),
        ([], 2, 0, None),
    ],
)
def test_the_entry_test_is_decided_by_what_was_judged_and_by_skips_only_where_nothing_is_left(right, skipped, left, verdict):
    assert entry_verdict(EntryTest(items=3, share=0.6), right, skipped=skipped, left=left) is verdict


def test_exactly_the_share_is_enough_for_the_entry_test():
    assert entry_verdict(EntryTest(items=25, share=0.56), [True] * 14 + [False] * 11)  # 0.56 * 25 is 14.000000000000002
    assert not entry_verdict(EntryTest(items=25, share=0.56), [True] * 13 + [False] * 12)


def test_without_enough_golden_items_for_the_test_nothing_real_is_handed_out(w: World):
    w.answered("g1", "x1")
    stream = w.stream(entry_test={"items": 2, "share": 0.5}, source={"rule": "listed"})
    w.golden(stream, 1, "g1")
    w.items(stream, "x1")
    assert w.thumb(stream, 1) == "g1"
    assert w.next(stream) is None
