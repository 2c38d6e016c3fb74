from __future__ import annotations

import itertools

from feedback_samples import completion, preference, rating, record, retraction

from feedback.codec import decode, encode
from feedback.events import Event, UserErased
from feedback.join import Joiner
from feedback.log import Record
from feedback.seal import ERASED, DataKey, seal_event


def erasure(user: str, time: float = 250.0, project: str = "p", **ends: int) -> Event:
    """Somebody erased at ``time``; what lies below ``ends`` in partition 0 of a topic was before it."""
    data = UserErased(user=user, ends={topic: {0: end} for topic, end in ends.items()})
    return Event(id=f"erase-{user}-{time}", time=time, project=project, key=user, data=data)


def joined(*records: Record) -> Joiner:
    joiner = Joiner()
    joiner.extend(records)
    return joiner


def ids(joiner: Joiner) -> list[str]:
    return [vote.feedback_id for vote in joiner.votes()]


def test_the_event_is_feedback_and_survives_the_log():
    event = erasure("r1", feedback=7)
    assert event.topic == "feedback"
    assert decode(*encode(event)) == event


def test_what_the_erased_said_is_no_label_and_what_others_said_is():
    records = [record(completion("x1"), 0), record(rating("f1"), 1), record(rating("f2", rater="r2"), 2)]
    joiner = joined(*records)
    assert ids(joiner) == ["f1", "f2"]
    joiner.add(record(erasure("r1"), 3))
    assert ids(joiner) == ["f2"]
    assert (joiner.counts.feedback_read, joiner.counts.votes) == (1, 1)


def test_what_they_say_afterwards_counts():
    joiner = joined(record(completion("x1"), 0), record(erasure("r1", 250.0), 1), record(rating("f1", time=250.1), 2))
    assert ids(joiner) == ["f1"]


def test_before_is_by_place_in_the_log_or_by_time():
    ahead, late = rating("ahead", time=9999.0), rating("late", time=249.0)
    records = [record(completion("x1"), 0), record(ahead, 1), record(erasure("r1", 250.0, feedback=2), 2), record(late, 3)]
    assert ids(joined(*records)) == []  # one was written by a clock that is ahead, one waited in an outbox
    assert ids(joined(records[0], record(ahead, 2), records[2])) == ["ahead"]


def test_another_projects_user_of_that_hash_is_somebody_else():
    joiner = joined(record(completion("x1"), 0), record(rating("f1"), 1), record(erasure("r1", project="q"), 2))
    assert ids(joiner) == ["f1"]


def test_a_retraction_of_the_erased_takes_nothing_back_afterwards():
    again = rating("f2", time=260.0)
    joiner = joined(record(completion("x1"), 0), record(again, 4), record(erasure("r1", 255.0, feedback=4), 3))
    undo = retraction("old").model_copy(update={"time": 100.0})
    joiner.add(record(undo, 2))
    assert ids(joiner) == ["f2"]


def test_votes_of_others_on_an_erased_users_answer_remain_without_its_text():
    sealed = seal_event(completion("x1"), DataKey(1, b"k" * 32))
    vote = record(rating("f1", rater="annotator"), 1)
    gone = record(erasure("u1"), 2)
    read_before, read_after = joined(record(completion("x1"), 0), vote, gone), joined(gone, vote, record(sealed, 0))
    assert read_before.votes() == read_after.votes()
    (answer,) = read_before.votes()[0].completions
    assert (answer.text.messages, answer.text.answer, answer.sealed) == ((), "", ERASED)


def test_a_text_that_was_read_before_is_let_go_of():
    joiner = joined(record(completion("x1"), 0), record(erasure("u1"), 1))
    joiner.votes()
    assert "answer of x1" not in repr(joiner._completions)


def test_the_votes_do_not_depend_on_the_order_of_reading():
    records = [
        record(completion("x1"), 0),
        record(completion("x2"), 1),
        record(rating("f1"), 2),
        record(preference("f2", rater="r2"), 3),
        record(erasure("r1", 210.0), 4),
        record(rating("f3", time=220.0), 5),
    ]
    expected = joined(*records)
    assert ids(expected) == ["f2", "f3"]
    for order in itertools.islice(itertools.permutations(records), 0, None, 7):
        joiner = joined(*order)
        assert (joiner.votes(), joiner.counts) == (expected.votes(), expected.counts)


def test_what_is_read_after_its_erasure_is_void_as_well():
    joiner = joined(record(completion("x1"), 0), record(erasure("r1"), 5))
    assert ids(joiner) == []
    joiner.add(record(rating("f1"), 1))
    assert ids(joiner) == []
    assert joiner.counts.feedback_read == 0


def test_a_copy_of_what_the_erased_said_is_void_wherever_it_lies():
    shown, gone = record(completion("x1"), 0), record(erasure("r1", 250.0, feedback=2), 2)
    first, copy = (record(rating("f1", time=300.0), offset) for offset in (1, 5))  # a cluster may hold an event twice
    assert ids(joined(shown, first, gone, copy)) == ids(joined(shown, gone, first, copy)) == []
