"""Items of a stream from the log: which answers are drawn, which never are, and that none is drawn twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from label_world import World, completion

from serving.labeling.draw import draw
from serving.labeling.places import conversation_of, find_places, newest_first, read_places
from serving.labeling.plan import StreamPlan
from serving.labeling.streams import Stream


def names(w: World, stream: Stream) -> list[tuple[str, ...]]:
    return [tuple(place.completion_id for place in item.places) for item in w.streams.items(stream.id)]


def test_the_newest_answers_are_drawn_up_to_the_quota(w: World):
    for n in range(5):
        w.answered(f"x{n}", time=100.0 + n)
    assert names(w, w.stream(quota=3)) == [("x4",), ("x3",), ("x2",)]


def test_what_did_not_end_well_is_of_another_project_or_is_erased_is_never_drawn(w: World):
    w.answered("failed", outcome="error")
    w.answered("foreign", project="other")
    w.log.append([completion("erased", text={"messages": (), "answer": ""}, sealed="sealed")])
    w.answered("good")
    for rule in ("newest", "random", "share"):
        assert names(w, w.stream(rule, source={"rule": rule})) == [("good",)]


def test_answers_of_one_adapter_only(w: World):
    w.answered("x1")
    w.answered("x2", adapter="a-v1")
    assert names(w, w.stream(source={"rule": "newest", "adapter": "a-v1"})) == [("x2",)]


def test_a_second_draw_brings_what_is_new_alone(w: World):
    w.answered("x1")
    for rule in ("newest", "share", "random"):
        stream = w.stream(rule, source={"rule": rule})
        assert w.streams.draw(stream, w.log) == 0
    w.answered("x2")
    for stream in w.streams.list(["default"]):
        assert w.streams.draw(stream, w.log) == 1
        assert sorted(names(w, stream)) == [("x1",), ("x2",)]


def test_an_empty_stream_looks_for_new_answers_when_somebody_asks(w: World):
    stream = w.stream()
    assert w.next(stream) is None
    w.answered("x1")
    assert w.next(stream) is None, "it has looked just now"
    w.now += 10
    assert w.task(stream).shown[0].place.completion_id == "x1"


def test_a_pair_is_two_answers_to_one_question_in_the_order_they_were_shown(w: World):
    w.answered("b", question="q", comparison="cmp_1", position=1)
    w.answered("a", question="q", comparison="cmp_1")
    w.answered("alone")
    assert names(w, w.stream(kind="preference")) == [("a", "b")]


def test_all_answers_to_one_question_are_ranked(w: World):
    w.answered("a", "b", "c", question="q")
    w.answered("d", question="r")
    (item,) = names(w, w.stream(kind="ranking"))
    assert sorted(item) == ["a", "b", "c"]


def test_answers_to_different_questions_of_one_conversation_are_no_item(w: World):
    for n, asked in enumerate(("first", "second")):
        text = {"messages": [{"role": "user", "content": asked}], "answer": "yes"}
        w.log.append([completion(f"x{n}", question="q", text=text)])
    assert names(w, w.stream(kind="ranking")) == []


def test_random_draws_every_answer_equally_often(w: World):
    w.answered(*(f"x{n}" for n in range(4)))
    plan = StreamPlan(kind="rating", source={"rule": "random"})
    drawn: Counter[str] = Counter()
    for seed in range(400):
        items, _ = draw(w.log, f"stream_{seed}", "default", plan, 1, {}, set())
        drawn[items[0][0].completion_id] += 1
    assert all(70 <= drawn[f"x{n}"] <= 130 for n in range(4)), drawn  # 100 each; 3.5 standard deviations of 8.7


def test_a_share_draws_about_that_share_and_the_same_answers_again(w: World):
    w.log.append([completion(f"x{n}", question=f"q{n}") for n in range(400)])
    plan = StreamPlan(kind="rating", quota=400, source={"rule": "share", "share": 0.25})
    first, second = (draw(w.log, "stream_1", "default", plan, 400, {}, set())[0] for _ in range(2))
    assert first == second
    assert 70 <= len(first) <= 130  # 100; 3.5 standard deviations of 8.7


def test_answers_are_found_by_id_and_by_place(w: World):
    w.answered(*(f"x{n}" for n in range(30)))
    found = find_places(w.log, ["x3", "x29", "nothing"])
    assert sorted(found) == ["x29", "x3"]
    places = [found["x3"].place, found["x29"].place]
    assert [answer.completion.completion_id for answer in read_places(w.log, places)] == ["x3", "x29"]
    assert read_places(w.log, [places[0]._replace(completion_id="x4")]) is None
    assert read_places(w.log, [places[0]._replace(offset=10_000)]) is None


def test_the_log_is_read_backwards_block_by_block_without_a_gap(w: World):
    w.log.append([completion(f"x{n}", question=f"q{n % 5}", time=float(n)) for n in range(40)])
    seen = Counter(record.event.data.completion_id for record in newest_first(w.log, block_size=3))
    assert seen == {f"x{n}": 1 for n in range(40)}
    late = conversation_of(w.log, "default", "q2", 500.0, block_size=3)
    assert [answer.completion.completion_id for answer in late] == ["x27", "x32", "x37"], (
        "one block of three: those before are older than the conversation"
    )
    assert len(conversation_of(w.log, "default", "q2", 0.0, block_size=3)) == 8


WRONG: list[dict[str, Any]] = [
    {"kind": "score"},
    {"kind": "rating", "metric": "resolved"},
    {"kind": "correction", "golden_rate": 0.1},
    {"kind": "correction", "entry_test": {"items": 3}},
    {"kind": "preference", "source": {"rule": "live"}},
    {"kind": "rating", "source": {"rule": "live"}, "overlap": 2},
    {"kind": "rating", "source": {"rule": "newest", "share": 0.5}},
    {"kind": "rating", "quota": 0},
    {"kind": "implicit"},
]


@pytest.mark.parametrize("plan", WRONG)
def test_a_plan_that_contradicts_itself_is_refused(plan: dict[str, Any]):
    with pytest.raises(ValueError):
        StreamPlan(**plan)
