from __future__ import annotations

import pytest
from feedback_samples import amendment, completion, judged, preference, rating, record, retraction
from hypothesis import given
from hypothesis import strategies as st

from feedback.events import Event, Implicit, Rating, Score
from feedback.join import Counts, Joiner
from feedback.log import Record


def joined(*events: Event) -> Joiner:
    """A joiner that has read these events, logged in this order."""
    joiner = Joiner()
    joiner.extend(record(event, offset) for offset, event in enumerate(events))
    return joiner


def values(joiner: Joiner) -> list[tuple[str, object]]:
    return [(vote.feedback_id, vote.judgement.value) for vote in joiner.votes()]


def test_feedback_is_joined_to_its_completion_and_keeps_what_the_learner_needs():
    joiner = joined(completion("x1"), rating("f1", value=-1))
    (vote,) = joiner.votes()
    assert (vote.feedback_id, vote.rater, vote.judgement.value, vote.key, vote.time) == ("f1", "r1", -1, "c1", 200.0)
    assert [c.text.answer for c in vote.completions] == ["answer of x1"]
    assert [e.completion_id for e in vote.exposures] == ["x1"]
    assert [(p.topic, p.offset) for p in vote.positions] == [("feedback", 1), ("completions", 0)]
    assert joiner.counts == Counts(
        completions=1, feedback_read=1, joined=1, waiting=0, retractions=0, superseded=0, excluded=0, votes=1
    )


def test_a_comparisons_completions_come_in_the_order_they_were_shown():
    joiner = joined(completion("x2"), completion("x1"), preference("f1", ("x1", "x2"), "b"))
    (vote,) = joiner.votes()
    assert [c.completion_id for c in vote.completions] == ["x1", "x2"]
    assert [p.offset for p in vote.positions] == [2, 1, 0]


def test_feedback_that_comes_first_waits_for_its_completion():
    joiner = joined(rating("f1"))
    assert joiner.votes() == []
    assert joiner.counts.waiting == 1
    joiner.add(record(completion("x1"), 7))
    assert values(joiner) == [("f1", 1)]
    assert joiner.counts.waiting == 0


def test_a_comparison_waits_until_both_its_completions_are_there():
    joiner = joined(completion("x1"), preference("f1"))
    assert joiner.votes() == []
    joiner.add(record(completion("x2"), 7))
    assert values(joiner) == [("f1", "a")]


def test_the_last_of_one_raters_judgements_of_a_target_counts():
    joiner = joined(completion("x1"), rating("f1", value=1), rating("f2", value=-1))
    assert values(joiner) == [("f2", -1)]
    assert joiner.counts.joined == 2
    assert joiner.counts.superseded == 1


def test_different_raters_targets_and_kinds_do_not_replace_each_other():
    joiner = joined(
        *[completion("x1"), completion("x2")],
        *[rating("f1"), rating("f2", rater="r2"), rating("f3", "x2"), preference("f4")],
    )
    assert [name for name, _ in values(joiner)] == ["f1", "f2", "f3", "f4"]


def test_a_lower_client_sequence_that_arrives_late_loses():
    joiner = joined(completion("x1"), rating("f2", value=-1, sequence=2), rating("f1", value=1, sequence=1))
    assert values(joiner) == [("f2", -1)]


def test_feedback_without_a_sequence_counts_in_log_order_and_does_not_reset_the_highest_seen():
    joiner = joined(completion("x1"), rating("f1", sequence=5), rating("f2", value=-1), rating("f3", sequence=4))
    assert values(joiner) == [("f2", -1)]


def test_a_retraction_removes_the_vote_and_a_later_judgement_brings_one_back():
    joiner = joined(completion("x1"), rating("f1"), retraction("f1"))
    assert values(joiner) == []
    assert (joiner.counts.superseded, joiner.counts.retractions, joiner.counts.joined) == (1, 1, 1)
    joiner.add(record(rating("f2", value=-1), 9))
    assert values(joiner) == [("f2", -1)]


def test_scores_of_two_metrics_stand_beside_each_other_and_each_is_replaced_by_its_next():
    joiner = joined(
        completion("x1"),
        judged("f1", Score(metric="resolved", value=0)),
        judged("f2", Score(metric="csat", value=0.5)),
        judged("f3", Score(metric="resolved", value=1)),
    )
    assert values(joiner) == [("f2", 0.5), ("f3", 1)]


def test_what_somebody_did_with_an_answer_is_kept_by_action():
    joiner = joined(completion("x1"), judged("f1", Implicit(action="copy")), judged("f2", Implicit(action="dwell", ms=900)))
    assert [vote.feedback_id for vote in joiner.votes()] == ["f1", "f2"]


def test_an_amendment_changes_what_it_names_and_leaves_the_rest():
    joiner = joined(completion("x1"), rating("f1", value=-1, comment="hm"), amendment("f2", {"tags": ["too_long"]}))
    (vote,) = joiner.votes()
    assert (vote.feedback_id, vote.judgement) == ("f1", Rating(value=-1, tags=("too_long",), comment="hm"))
    assert [(p.topic, p.offset) for p in vote.positions] == [("feedback", 1), ("feedback", 2), ("completions", 0)]
    assert (joiner.counts.feedback_read, joiner.counts.superseded, joiner.counts.retractions) == (1, 0, 0)


@pytest.mark.parametrize(
    "change",
    [
        amendment("f2", {"value": 5}),
        amendment("f2", {"comment": "of something else"}, kind="score", metric="resolved"),
        amendment("f2", {"comment": "of something else"}, "x9"),
        amendment("f2", {"comment": "late"}, sequence=1),
    ],
)
def test_an_amendment_that_makes_no_judgement_or_is_of_another_or_late_changes_nothing(change):
    joiner = joined(completion("x1"), rating("f1", sequence=2), change)
    (vote,) = joiner.votes()
    assert vote.judgement == Rating(value=1)


def test_an_amendment_of_nothing_and_of_what_was_taken_back_makes_no_vote():
    assert joined(completion("x1"), amendment("f2", {"value": 1})).votes() == []
    assert joined(completion("x1"), rating("f1"), retraction("f1"), amendment("f2", {"value": 1})).votes() == []


@pytest.mark.parametrize("outcome", ["error", "aborted", "timeout"])
def test_a_completion_that_did_not_end_well_never_becomes_a_label(outcome):
    joiner = joined(completion("x1"), completion("x2", outcome=outcome), rating("f1", "x2"), preference("f2"))
    assert values(joiner) == []
    assert (joiner.counts.joined, joiner.counts.excluded, joiner.counts.votes) == (2, 2, 0)


def test_a_copy_of_an_event_counts_once_at_its_first_place():
    joiner = joined(completion("x1"), rating("f1", value=1), rating("f2", value=-1), rating("f1", value=1))
    assert values(joiner) == [("f2", -1)]  # the copy of f1 at offset 3 is not a newer judgement
    assert joiner.counts.feedback_read == 2


def test_an_event_id_used_for_two_targets_counts_for_the_first():
    again = rating("f1", "x2").model_copy(update={"id": "e-f0"})  # two gateways cannot see each other's ids
    joiner = joined(completion("x1"), completion("x2"), rating("f0"), again)
    assert values(joiner) == [("f0", 1)]
    assert joiner.counts.feedback_read == 1


def test_a_feedback_id_under_two_event_ids_counts_once():
    again = rating("f1", value=-1).model_copy(update={"id": "e-other"})
    joiner = joined(completion("x1"), rating("f1", value=1), again)
    assert values(joiner) == [("f1", 1)]
    assert joiner.counts.feedback_read == 1


def test_feedback_joins_only_completions_of_its_own_project():
    foreign = rating("f1", project="q")
    assert joined(completion("x1"), foreign).votes() == []
    only_q = Joiner(project="q")
    only_q.extend([record(completion("x1"), 0), record(foreign, 1), record(rating("f2"), 2)])
    assert only_q.counts[:3] == (0, 1, 0)


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    """A log: up to four targets, three raters, with re-votes, retractions, copies, sequences, failures and orphans."""
    events: list[Event] = []
    for number in range(draw(st.integers(1, 12))):
        target = f"x{draw(st.integers(1, 4))}"
        rater = f"r{draw(st.integers(1, 3))}"
        sequence = draw(st.none() | st.integers(0, 3))
        name = f"f{draw(st.integers(0, number))}"
        kind = draw(st.sampled_from(["rating", "rating", "preference", "undo", "completion"]))
        if kind == "rating":
            events.append(rating(name, target, draw(st.sampled_from([-1, 1])), rater=rater, sequence=sequence))
        elif kind == "preference":
            events.append(preference(name, (target, "x1"), draw(st.sampled_from(["a", "b", "tie"])), rater=rater))
        elif kind == "undo":
            events.append(retraction(name, target, rater=rater, sequence=sequence))
        else:
            events.append(completion(target, outcome=draw(st.sampled_from(["ok", "ok", "ok", "error"]))))
    events += [completion("x1"), completion("x2")]
    records = [record(event, offset, draw(st.integers(0, 1))) for offset, event in enumerate(events)]
    copies = [r._replace(position=r.position._replace(offset=100 + n)) for n, r in enumerate(records) if draw(st.booleans())]
    return records + copies


@given(st.data())
def test_any_interleaving_gives_the_same_votes(data):
    records = data.draw(histories())
    forwards, shuffled = Joiner(), Joiner()
    forwards.extend(records)
    shuffled.extend(data.draw(st.permutations(records)))
    assert shuffled.votes() == forwards.votes()
    assert shuffled.counts == forwards.counts


@given(histories())
def test_the_counts_add_up(records):
    joiner = Joiner()
    joiner.extend(records)
    counts = joiner.counts
    assert counts.feedback_read == counts.joined + counts.waiting
    assert counts.joined == counts.votes + counts.superseded + counts.excluded
    assert counts.votes == len(joiner.votes())


@given(histories())
def test_one_vote_at_most_for_each_target_rater_and_kind(records):
    joiner = Joiner()
    joiner.extend(records)
    slots = [(vote.target, vote.rater, vote.judgement.kind) for vote in joiner.votes()]
    assert len(slots) == len(set(slots))
