"""Imported rows as events: ids that follow from what is said, sides by a toss, raters that no cap silences."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from feedback_samples import record

from feedback.codec import decode, encode
from feedback.events import Message, Preference, Rating
from feedback.importers import FORMATS
from feedback.importers.facts import ADAPTER, Facts, facts_of
from feedback.importers.record import Imported, Verdict, preferred
from feedback.join import Joiner, Vote
from feedback.log import Position, Record

PAIR = Imported((Message(role="user", content="Why?"),), ("Yes.", "No."), (preferred("a"),), sides_known=False)


def facts(row: Imported = PAIR, *, project: str = "p", format: str = "hh-rlhf", time: float = 5.0) -> Facts:
    return facts_of(row, project, format, time)


def votes(made: Facts) -> list[Vote]:
    joiner = Joiner()
    joiner.extend(Record(Position(event.topic, 0, offset), event) for offset, event in enumerate(made.events))
    return joiner.votes()


def question(number: int) -> Imported:
    return replace(PAIR, prompt=(Message(role="user", content=f"Why {number}?"),))


def test_a_rows_events_are_the_same_whenever_it_is_imported_but_for_their_time():
    first, again = facts(time=5.0), facts(time=6.0)
    assert [event.model_copy(update={"time": 0.0}) for event in first.events] == [
        event.model_copy(update={"time": 0.0}) for event in again.events
    ]


@pytest.mark.parametrize(
    "other",
    [
        facts(project="q"),
        facts(format="arena"),
        facts(question(1)),
        facts(replace(PAIR, answers=("Yes.", "Nope."))),
        facts(replace(PAIR, verdicts=(preferred("b"),))),
        facts(replace(PAIR, verdicts=(preferred("a", "safety"),))),
        facts(replace(PAIR, row_id="7")),
        facts(replace(PAIR, rater="7")),
    ],
)
def test_another_project_format_or_word_makes_other_ids(other):
    assert not {event.id for event in facts().events} & {event.id for event in other.events}


def test_sides_that_nobody_knows_are_tossed_and_the_vote_follows_its_answer():
    """300 fair tosses: between 120 and 180 heads but once in 1 500 times; these are always the same."""
    said = [votes(facts(question(number)))[0] for number in range(300)]
    assert 120 < Counter(vote.judgement.value for vote in said)["a"] < 180
    for vote in said:
        assert vote.completions["ab".index(vote.judgement.value)].text.answer == "Yes."
        assert [completion.position for completion in vote.completions] == [0, 1]


@pytest.mark.parametrize("value", ["tie", "both_bad"])
def test_a_tie_stays_one_whichever_side_is_shown_first(value):
    for number in range(8):
        (vote,) = votes(facts(replace(question(number), verdicts=(preferred(value),))))
        assert vote.judgement.value == value


def test_sides_that_are_known_are_kept():
    for number in range(20):
        (vote,) = votes(facts(replace(question(number), sides_known=True)))
        assert (vote.judgement.value, vote.completions[0].text.answer) == ("a", "Yes.")


def test_pairs_of_more_than_two_answers_share_their_completions_and_each_stands():
    row = replace(
        PAIR,
        answers=("A", "B", "C"),
        verdicts=tuple(Verdict(pair, Preference(value="a")) for pair in ((0, 1), (0, 2), (1, 2))),
    )
    made = facts(row)
    assert (len(made.completions), len(made.feedback)) == (3, 3)
    standing = votes(made)
    winners = [vote.completions["ab".index(vote.judgement.value)].text.answer for vote in standing]
    assert Counter(winners) == {"A": 2, "B": 1}
    assert len({vote.target.id for vote in standing}) == 3
    assert len({vote.rater for vote in standing}) == 1


def test_two_people_who_judged_one_row_do_not_replace_each_other():
    row = FORMATS["pku-saferlhf"](
        {
            "prompt": "How?",
            "response_0": "So.",
            "response_1": "Never.",
            "is_response_0_safe": False,
            "is_response_1_safe": True,
            "better_response_id": 0,
            "safer_response_id": 1,
        }
    )
    standing = votes(facts(row))
    assert sorted((v.judgement.kind, v.judgement.tags) for v in standing) == [
        ("flag", ("safety",)),
        ("preference", ("helpfulness",)),
        ("preference", ("safety",)),
    ]
    assert len({vote.rater for vote in standing}) == 2


def test_rows_without_a_rater_are_so_many_peoples_and_rows_of_one_rater_are_one_persons():
    assert len({votes(facts(question(number)))[0].rater for number in range(5)}) == 5
    assert len({votes(facts(replace(question(number), rater="judge 7")))[0].rater for number in range(5)}) == 1
    ours = {votes(facts(replace(PAIR, rater="judge 7"), project=project))[0].rater for project in ("p", "q")}
    assert len(ours) == 2


def test_imported_events_are_of_no_rollout_and_say_where_they_come_from():
    made = facts(replace(PAIR, models=("ant", "")))
    for event in made.completions:
        assert (event.data.exposure.adapter, event.data.exposure.rollout_id, event.data.outcome) == (ADAPTER, None, "ok")
    assert [event.data.sampling for event in made.completions] == [
        {"imported_from": "hh-rlhf", "model": "ant"},
        {"imported_from": "hh-rlhf"},
    ]
    (vote,) = votes(made)
    assert vote.source == "imported"
    assert len({event.data.user for event in made.completions + facts(question(1)).completions}) == 1


def test_imported_events_go_through_the_codec():
    for event in facts().events:
        assert decode(*encode(event)) == event
        assert record(event).position.topic == event.topic


def test_a_single_answers_verdict_is_about_that_answer():
    (vote,) = votes(facts(replace(PAIR, verdicts=(Verdict((1,), Rating(value=-1)),))))
    assert (vote.completions[0].text.answer, vote.target.comparison_id) == ("No.", None)
