"""What annotators may send for a task, what of it is kept, and when a golden item was answered rightly."""

from __future__ import annotations

import json
from typing import Any

import pytest
from label_world import World, completion

from feedback.events import Exposure, Flag, Preference, Ranking, Rating, Score, Target
from feedback.receipts import Receipt
from serving.errors import Forbidden, InvalidRequest
from serving.labeling.answers import check_right_answer, is_right, parse_answer
from serving.labeling.golden import truth
from serving.labeling.places import find_places
from serving.labeling.plan import StreamPlan
from serving.labeling.statistics import rater_views, stream_view, task_views


def said(**body: Any):
    return parse_answer(json.dumps(body).encode())


MALFORMED: list[tuple[Any, str | None]] = [
    ([], None),
    ({}, "type"),
    ({"type": "thumb"}, "type"),
    ({"type": ["rating"]}, "type"),
    ({"type": "rating", "value": 0}, "value"),
    ({"type": "rating", "value": True}, "value"),
    ({"type": "rating", "value": "1"}, "value"),
    ({"type": "rating", "value": 1, "tags": ["inaccurate"]}, "tags"),
    ({"type": "rating", "value": 1, "stars": 5}, "stars"),
    ({"type": "rating", "value": 1, "decision_ms": -1}, "decision_ms"),
    ({"type": "preference", "value": "left"}, "value"),
    ({"type": "ranking", "ranks": [1]}, "ranks"),
    ({"type": "correction", "text": ""}, "text"),
    ({"type": "score", "value": 1.1}, "value"),
    ({"type": "flag", "harms": ["rude"]}, "harms[0]"),
    ({"type": "skip", "reason": "because I say so"}, "reason"),
    ({"type": "skip", "reason": "other", "comment": "it names my aunt"}, "comment"),
    ({"type": "conversation", "judgements": []}, "judgements"),
]


@pytest.mark.parametrize(("body", "param"), MALFORMED)
def test_what_is_wrong_with_an_answer_is_told_by_field(body: Any, param: str | None):
    with pytest.raises(InvalidRequest) as told:
        parse_answer(json.dumps(body).encode())
    assert told.value.param == param


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"type": "rating", "value": 1}, "type"),
        ({"type": "ranking", "ranks": [1, 2]}, "ranks"),
        ({"type": "ranking", "ranks": [1, 3, 4]}, "ranks"),
        ({"type": "flag", "harms": ["hate"], "answers": [3]}, "answers"),
        ({"type": "flag", "harms": ["hate"], "answers": [0, 0]}, "answers"),
        ({"type": "flag", "harms": []}, "harms"),
    ],
)
def test_an_answer_to_another_question_is_refused_and_the_task_stays_open(w: World, body: dict[str, Any], param: str):
    w.answered("a", "b", "c", question="q")
    stream = w.stream(kind="ranking")
    handed = w.task(stream)
    w.now += 60 * 29
    with pytest.raises(InvalidRequest) as told:
        w.say(handed, **body)
    assert told.value.param == param
    assert w.task(stream).task == handed.task
    w.say(handed, type="ranking", ranks=[2, 1, 1])
    assert [fact.judgement.ranks for fact in w.facts()] == [(2, 1, 1)]


def test_scores_and_corrections_are_kept_as_the_log_knows_them(w: World):
    w.answered("x1")
    scored, corrected = w.stream("s", kind="score", metric="helpful"), w.stream("c", kind="correction")
    w.say(w.task(scored), type="score", value=0.75)
    w.say(w.task(corrected), type="correction", text="better")
    first, second = (fact.judgement for fact in w.facts())
    assert {(first.kind, first.name), (second.kind, second.name)} == {("score", "helpful"), ("correction", "")}
    assert {getattr(j, "value", None) or getattr(j, "text", None) for j in (first, second)} == {0.75, "better"}


def test_harm_stands_instead_of_the_judgement_on_every_answer_named(w: World):
    w.answered("a", "b", question="q")
    stream = w.stream(kind="preference")
    handed = w.task(stream)
    assert len(w.say(handed, type="flag", harms=["hate"], answers=[0, 1])) == 2
    facts = w.facts()
    assert {(fact.target.completion_ids, fact.judgement.harms) for fact in facts} == {(("a",), ("hate",)), (("b",), ("hate",))}
    assert stream_view(w.streams, stream).figures.harmful_rate == 1


def test_where_flags_are_asked_for_no_harm_is_a_judgement_too(w: World):
    w.answered("x1")
    w.say(w.task(w.stream(kind="flag")), type="flag", harms=[])
    (fact,) = w.facts()
    assert (fact.judgement.kind, fact.judgement.name, fact.judgement.value) == ("score", "harmless", 1.0)


RIGHT: list[tuple[dict[str, Any], Any, tuple[int, ...], bool]] = [
    ({"type": "rating", "value": 1}, 1, (0,), True),
    ({"type": "rating", "value": -1}, 1, (0,), False),
    ({"type": "preference", "value": "a"}, "a", (0, 1), True),
    ({"type": "preference", "value": "a"}, "a", (1, 0), False),
    ({"type": "preference", "value": "b"}, "a", (1, 0), True),
    ({"type": "preference", "value": "tie"}, "tie", (1, 0), True),
    ({"type": "preference", "value": "tie"}, "a", (0, 1), False),
    # the third answer is shown first, the first second: ranked 1, 2, 3 as shown is 2, 3, 1 in the item's order
    ({"type": "ranking", "ranks": [1, 2, 3]}, [2, 3, 1], (2, 0, 1), True),
    ({"type": "ranking", "ranks": [1, 2, 3]}, [1, 2, 3], (2, 0, 1), False),
    ({"type": "score", "value": 0.5}, 0.75, (0,), True),
    ({"type": "score", "value": 0.25}, 0.75, (0,), False),
    ({"type": "flag", "harms": ["hate", "other"]}, ["hate"], (0,), True),
    ({"type": "flag", "harms": ["other"]}, ["hate"], (0,), False),
    ({"type": "flag", "harms": []}, [], (0,), True),
    ({"type": "flag", "harms": ["hate"]}, [], (0,), False),
    ({"type": "flag", "harms": ["hate"]}, 1, (0,), False),
    ({"type": "skip", "reason": "other"}, 1, (0,), False),
]


@pytest.mark.parametrize(("body", "right", "order", "expected"), RIGHT)
def test_a_golden_item_is_compared_in_its_own_order(body: dict[str, Any], right: Any, order: tuple[int, ...], expected: bool):
    assert is_right(said(**body), right, order) is expected


@pytest.mark.parametrize(
    ("kind", "right", "count"),
    [
        ("rating", 2, 1),
        ("rating", "a", 1),
        ("preference", "c", 2),
        ("ranking", [1, 3], 2),
        ("ranking", [1, 2, 3], 2),
        ("flag", ["rude"], 1),
        ("flag", "hate", 1),
        ("score", 2, 1),
        ("correction", "x", 1),
    ],
)
def test_a_right_answer_that_nobody_could_give_is_refused(kind: str, right: Any, count: int):
    plan = StreamPlan(kind=kind, metric="m" if kind == "score" else "")
    with pytest.raises(InvalidRequest):
        check_right_answer(plan, right, count)


def test_figures_of_a_stream_and_of_its_raters(w: World):
    w.answered(*(f"x{n}" for n in range(4)), "g1", "g2")
    stream = w.stream(overlap=2, source={"rule": "listed"}, entry_test={"items": 2, "share": 0.5}, lease_s=100)
    w.golden(stream, 1, "g1")
    w.golden(stream, -1, "g2")
    w.items(stream, "x0", "x1", "x2", "x3")

    def work(who: str, seconds: float, **body: Any) -> None:
        handed = w.task(stream, who)
        w.now += seconds
        w.say(handed, who, **body)

    work("ann", 2, type="rating", value=1)  # one golden item right, one wrong
    work("ann", 4, type="rating", value=1)
    work("ann", 6, type="rating", value=1)
    work("ann", 8, type="skip", reason="unclear")
    work("ann", 10, type="flag", harms=["hate"])
    w.task(stream, "bob")
    w.now += 100
    w.task(stream, "bob")
    view = stream_view(w.streams, stream)
    assert (view.items, view.golden_items, view.complete, view.missing_golden, view.raters) == (4, 2, 0, 0, 2)
    ann, bob = (row.figures for row in rater_views(w.streams, stream))
    assert (ann.handed_out, ann.answered, ann.skipped, ann.harmful, ann.expired, ann.open) == (5, 4, 1, 1, 0, 0)
    assert (ann.golden, ann.golden_accuracy, ann.rejection_rate, ann.harmful_rate) == (2, 0.5, 0.2, 0.25)
    assert (ann.seconds_median, ann.seconds_mean) == (5, 5.5)  # of 2, 4, 6 and 10
    assert (bob.handed_out, bob.expired, bob.open, bob.golden_accuracy) == (1, 1, 1, None)
    assert [row.admitted for row in rater_views(w.streams, stream)] == [True, None]


def test_a_skipped_golden_item_is_a_rejection_and_no_wrong_answer(w: World):
    w.answered("x0", "x1", "g1", "g2")
    stream = w.stream(source={"rule": "listed"}, golden_rate=0.5)
    w.golden(stream, 1, "g1")
    w.golden(stream, 1, "g2")
    w.items(stream, "x0", "x1")
    w.say(w.task(stream), type="rating", value=1)  # a coin of 0 is below the rate: a golden item, as long as there is one
    w.say(w.task(stream), type="skip", reason="unclear")
    w.say(w.task(stream), type="rating", value=1)
    w.say(w.task(stream), type="rating", value=1)
    assert [(row.golden, row.outcome, row.correct) for row in task_views(w.streams, stream)] == [
        (True, "answered", True),
        (True, "skipped", None),
        (False, "answered", None),
        (False, "answered", None),
    ]
    figures = stream_view(w.streams, stream).figures
    assert (figures.golden, figures.golden_accuracy, figures.skipped, figures.rejection_rate) == (1, 1.0, 1, 0.25)


# conversations


def turn(w: World, handed, name: str, conversation: str | None = None) -> str:
    """An answer in a task's conversation: in the log, and its receipt."""
    conversation = conversation or handed.task.id
    w.log.append([completion(name, question=conversation, time=w.now)])
    return w.receipts.seal(
        Receipt(
            project="default",
            target=Target(completion_ids=(name,)),
            exposures=(Exposure(completion_id=name, adapter="base"),),
            user="u",
            conversation=conversation,
            issued=w.now,
            expires=w.now + 1000,
        )
    )


def test_a_conversation_is_had_in_the_task_and_every_answer_of_it_is_rated(w: World):
    stream = w.stream(source={"rule": "live", "topics": ["cats"], "turns": 2}, quota=1)
    handed = w.task(stream)
    assert handed.shown == ()
    first, second = turn(w, handed, "x1"), turn(w, handed, "x2")
    rated = [{"receipt": first, "value": 1}, {"receipt": second, "value": -1, "harms": ["hate"], "comment": "no"}]

    def refused(judgements: list[dict[str, Any]]) -> InvalidRequest:
        with pytest.raises(InvalidRequest) as told:
            w.say(handed, type="conversation", judgements=judgements)
        return told.value

    assert refused(rated[:1]).code == "conversation_too_short"
    assert "two of one answer" in refused([rated[0], rated[0]]).message
    strange = turn(w, handed, "y1", "another conversation")
    assert refused([rated[0], {"receipt": strange, "value": 1}]).param == "judgements[1].receipt"
    third = turn(w, handed, "x3")
    assert "x3" in refused(rated).message
    assert w.facts() == []
    ids = w.say(handed, type="conversation", judgements=[*rated, {"receipt": third, "value": 1}])
    assert len(ids) == 4
    assert w.say(handed, type="conversation", judgements=[*rated, {"receipt": third, "value": 1}]) == ids
    kept = {(fact.target.id, fact.judgement.kind) for fact in w.facts()}
    assert kept == {("x1", "rating"), ("x2", "rating"), ("x2", "flag"), ("x3", "rating")}
    assert w.next(stream, "bob") is None, "the quota is one conversation"
    assert stream_view(w.streams, stream).figures.harmful == 1


def test_an_annotator_chats_in_the_conversation_of_an_open_task_and_nowhere_else(w: World):
    from label_world import annotator

    w.answered("x1")
    live, static = w.stream("live", source={"rule": "live"}, lease_s=100), w.stream("static")
    handed, judged = w.task(live), w.task(static)
    w.desk.check_may_chat(annotator("ann"), "default", handed.task.id)
    for who, conversation in (("bob", handed.task.id), ("ann", judged.task.id), ("ann", "mine"), ("ann", None)):
        with pytest.raises(Forbidden):
            w.desk.check_may_chat(annotator(who), "default", conversation)
    w.now += 100
    with pytest.raises(Forbidden):
        w.desk.check_may_chat(annotator("ann"), "default", handed.task.id)


def test_each_conversation_counts_towards_the_quota_and_an_abandoned_one_is_somebody_elses(w: World):
    stream = w.stream(source={"rule": "live"}, quota=2, lease_s=100)
    first, second = w.task(stream, "ann"), w.task(stream, "bob")
    assert {first.item.number, second.item.number} == {0, 1}
    assert w.next(stream, "cid") is None
    w.now += 100
    third = w.task(stream, "cid")
    assert third.item.id in (first.item.id, second.item.id)
    assert third.task.id not in (first.task.id, second.task.id)


@pytest.mark.parametrize(
    ("kind", "right", "expected"),
    [
        ("rating", -1, Rating(value=-1)),
        ("preference", "b", Preference(value="b")),
        ("ranking", [2, 1], Ranking(ranks=(2, 1))),
        ("score", 0.25, Score(metric="m", value=0.25)),
        ("flag", ["hate"], Flag(harms=("hate",))),
        ("flag", [], Score(metric="harmless", value=1.0, boolean=True)),
    ],
)
def test_what_is_right_about_a_golden_item_stands_in_the_log(w: World, kind: str, right: Any, expected: Any):
    w.answered("a", "b", question="q")
    found = find_places(w.log, ["a", "b"])
    stream = w.stream(kind=kind, metric="m" if kind == "score" else "", source={"rule": "listed"})
    names = ["a", "b"][: stream.plan.answers[0]]
    event = truth(stream, [found[name] for name in names], check_right_answer(stream.plan, right, len(names)), 5.0)
    assert (event.data.judgement, event.data.source, event.key) == (expected, "golden", "q")
    assert event.data.target.completion_ids == tuple(names)
