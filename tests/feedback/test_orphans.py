from __future__ import annotations

from feedback_samples import completion, preference, rating, record

from feedback.codec import no_target
from feedback.events import Event
from feedback.log import TopicReader
from feedback.orphans import Orphans

HOUR = 3600.0


def watching(*events: Event) -> Orphans:
    orphans = Orphans("p")
    for offset, event in enumerate(events):
        orphans.add(record(event, offset))
    return orphans


def ids(orphans: Orphans, now: float, hours: float) -> list[str]:
    return [r.event.id for r in orphans.waiting(now, hours)]


def test_an_orphan_is_feedback_that_waited_longer_than_the_limit():
    orphans = watching(rating("old", "gone", time=0), rating("new", "gone2", time=HOUR), completion("x1"), rating("f", time=0))
    assert ids(orphans, 2 * HOUR + 1, 2) == ["e-old"]
    assert ids(orphans, 2 * HOUR, 2) == []
    orphans.add(record(completion("gone"), 9))
    assert ids(orphans, 2 * HOUR + 1, 2) == []


def test_feedback_whose_letter_retention_may_have_deleted_is_left_alone():
    orphans = watching(rating("f1", "gone", time=0), rating("f2", "gone", time=5 * HOUR))
    assert [r.event.id for r in orphans.waiting(10 * HOUR, 2, kept_hours=10)] == ["e-f2"]
    assert [r.event.id for r in orphans.waiting(10 * HOUR, 2, kept_hours=10.1)] == ["e-f1", "e-f2"]


def test_a_comparison_waits_for_both_of_its_answers():
    orphans = watching(preference("f1", ("x1", "x2"), time=0), completion("x1"))
    assert ids(orphans, 3 * HOUR, 2) == ["e-f1"]
    orphans.add(record(completion("x2"), 9))
    assert ids(orphans, 3 * HOUR, 2) == []


def test_the_order_of_reading_and_copies_change_nothing():
    feedback, late = rating("f1", "x1", time=0), rating("f2", "gone", time=0)
    first, second = watching(feedback, late, completion("x1")), watching(completion("x1"), feedback, late)
    assert ids(first, 3 * HOUR, 2) == ids(second, 3 * HOUR, 2) == ["e-f2"]
    first.add(record(late, 50))
    assert [r.position.offset for r in first.waiting(3 * HOUR, 2)] == [1]


def test_other_projects_are_left_alone():
    assert ids(watching(rating("f1", project="q", time=0)), 3 * HOUR, 2) == []


def test_a_letter_is_the_same_whether_or_not_its_writers_text_was_erased_and_an_older_one_stands(opened):
    log = opened()
    late = rating("f1", "gone", time=0, comment="a canary sang")
    erased = late.data.model_copy(
        update={"judgement": late.data.judgement.model_copy(update={"comment": ""}), "sealed": "erased"}
    )
    assert watching(late).bury(log, 3 * HOUR, 2) == 1
    _, letter = TopicReader(log, "dead-letter").drain()[0]
    assert no_target(record(late.model_copy(update={"data": erased})), 3 * HOUR) == letter
    older = letter.model_copy(update={"id": "dead-letter:no_target:feedback:0:1", "project": "older"})
    log.append([older])
    assert watching(completion("x1"), late).bury(log, 3 * HOUR, 2) == 1  # at offset 1: nothing is raised
    assert [r.event for r in TopicReader(log, "dead-letter").drain() if r.event.id == older.id] == [older]


def test_a_letter_is_written_once_by_any_number_of_watchers(opened):
    log = opened()
    late = record(rating("f1", "gone", time=0))
    first, second = watching(late.event), watching(late.event)
    assert (first.bury(log, 3 * HOUR, 2), first.bury(log, 4 * HOUR, 2), second.bury(log, 5 * HOUR, 2)) == (1, 0, 1)
    letters = TopicReader(log, "dead-letter").drain()
    assert [r.event for r in letters] == [no_target(late, 3 * HOUR)]
    third = watching(late.event)
    third.add(letters[0])
    before = log.transactions
    assert third.bury(log, 6 * HOUR, 2) == 0
    assert log.transactions == before
