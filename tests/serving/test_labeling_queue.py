"""Tasks in SQL: leases, overlap, quota, golden items and the entry test, for one annotator and for fifty at once."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from label_world import World, annotator, world
from sqlalchemy import select

from feedback.raters.standing import Standing, event_of, pause, reinstate
from serving.errors import Conflict, Forbidden, NotFound
from serving.labeling import tables
from serving.labeling.desk import display_order
from serving.labeling.plan import EntryTest
from serving.labeling.queue import entry_verdict
from serving.labeling.statistics import rater_views
from serving.labeling.views import LabelTask


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def test_a_task_shows_the_question_and_the_answer_of_the_log_and_the_judgement_is_kept_with_it(w: World):
    w.answered("x1")
    stream = w.stream()
    handed = w.task(stream)
    assert [found.completion.text.answer for found in handed.shown] == ["answer x1"]
    w.now += 12.5
    (fact_id,) = w.say(handed, type="rating", value=-1, tags=["inaccurate"], comment="no", decision_ms=9000)
    (fact,) = w.facts()
    assert (fact.feedback_id, fact.source, fact.stream, fact.task) == (fact_id, "annotator", stream.id, handed.task.id)
    assert (fact.rater, fact.key_id) == (w.desk.rater(annotator("ann"), "default"), "key_ann")
    assert (fact.judgement.value, fact.judgement.tags, fact.judgement.comment) == (-1, ("inaccurate",), "no")
    assert fact.judgement.decision_ms == 9000
    assert [exposure.completion_id for exposure in fact.exposures] == ["x1"]
    assert w.next(stream) is None


def test_who_decides_cannot_have_taken_longer_than_they_had_the_task(w: World):
    w.answered("x1", "x2")
    stream = w.stream()
    for said in ({"decision_ms": 86_000_000}, {}):
        handed = w.task(stream)
        w.now += 3
        w.say(handed, type="rating", value=1, **said)
    assert [fact.judgement.decision_ms for fact in w.facts()] == [3000, 3000]


def test_nobody_judges_an_item_twice_and_no_item_gets_more_raters_than_its_overlap(w: World):
    w.answered("x1", "x2")
    stream = w.stream(overlap=2)
    assert sorted([w.thumb(stream, 1, "ann"), w.thumb(stream, 1, "ann")]) == ["x1", "x2"]
    assert w.next(stream, "ann") is None
    assert sorted([w.thumb(stream, 1, "bob"), w.thumb(stream, 1, "bob")]) == ["x1", "x2"]
    assert w.next(stream, "cid") is None
    assert len(w.facts()) == 4


def test_asking_again_gives_the_task_that_is_open(w: World):
    w.answered("x1", "x2")
    stream = w.stream()
    first, again = w.task(stream), w.task(stream)
    assert first.task == again.task
    w.say(first, type="rating", value=1)
    assert w.task(stream).task.id != first.task.id


def test_an_item_that_others_have_begun_with_is_finished_first(w: World):
    w.answered("x1", "x2", "x3")
    stream = w.stream(overlap=2)
    w.coins = [0.99]  # of three items ann gets the last
    begun = w.thumb(stream, 1, "ann")
    assert w.thumb(stream, 1, "bob") == begun


def test_a_task_that_is_not_done_in_time_goes_to_somebody_else_and_cannot_be_answered_any_more(w: World):
    w.answered("x1")
    stream = w.stream(lease_s=60)
    late = w.task(stream, "ann")
    w.now += 59
    assert w.next(stream, "bob") is None
    w.now += 1
    taken = w.task(stream, "bob")
    assert taken.item.id == late.item.id
    with pytest.raises(Conflict) as told:
        w.say(late, "ann", type="rating", value=1)
    assert told.value.code == "lease_expired"
    assert w.facts() == []
    w.say(taken, "bob", type="rating", value=1)
    assert w.next(stream, "ann") is None


def test_a_late_answer_is_refused_also_while_nobody_else_has_asked(w: World):
    w.answered("x1")
    stream = w.stream(lease_s=60)
    late = w.task(stream)
    w.now += 60
    with pytest.raises(Conflict):
        w.say(late, type="rating", value=1)
    again = w.task(stream)
    assert (again.item.id, again.task.id != late.task.id) == (late.item.id, True)
    w.say(again, type="rating", value=1)
    assert len(w.facts()) == 1


def test_a_skipped_item_is_kept_for_others_and_leaves_no_judgement(w: World):
    w.answered("x1")
    stream = w.stream()
    assert w.say(w.task(stream, "ann"), "ann", type="skip", reason="no_expertise") == ()
    assert w.next(stream, "ann") is None
    assert w.thumb(stream, 1, "bob") == "x1"
    assert len(w.facts()) == 1


def test_a_closed_stream_hands_out_nothing_but_takes_what_is_out(w: World):
    w.answered("x1", "x2")
    stream = w.stream(overlap=2)
    handed = w.task(stream)
    w.streams.close(stream.id)
    assert w.next(stream, "bob") is None
    w.say(handed, type="rating", value=1)
    assert w.next(stream) is None
    assert len(w.facts()) == 1


def test_a_task_is_its_raters_alone(w: World):
    w.answered("x1")
    handed = w.task(w.stream(), "ann")
    with pytest.raises(NotFound):
        w.say(handed, "bob", type="rating", value=1)


def test_the_same_answer_again_has_one_effect_and_another_is_refused(w: World):
    w.answered("x1")
    handed = w.task(w.stream())
    first = w.say(handed, type="rating", value=1)
    w.now += 5000
    assert w.say(handed, type="rating", value=1) == first
    with pytest.raises(Conflict) as told:
        w.say(handed, type="rating", value=-1)
    assert told.value.code == "task_answered"
    assert [fact.judgement.value for fact in w.facts()] == [1]


def test_an_answer_that_reached_the_log_before_its_gateway_died_is_the_one_that_counts(w: World, monkeypatch):
    w.answered("x1", "x2")
    stream = w.stream()
    handed = w.task(stream)
    with monkeypatch.context() as dying:
        dying.setattr(w.queue, "finish", _die)
        with pytest.raises(KeyboardInterrupt):
            w.say(handed, type="rating", value=1)
    w.now += 7  # the repeated request is stamped anew, but says the same
    w.say(handed, type="rating", value=1)
    assert [fact.judgement.value for fact in w.facts()] == [1]
    handed = w.task(stream)
    with monkeypatch.context() as dying:
        dying.setattr(w.queue, "finish", _die)
        with pytest.raises(KeyboardInterrupt):
            w.say(handed, type="rating", value=1)
    with pytest.raises(Conflict) as told:
        w.say(handed, type="rating", value=-1)
    assert told.value.code == "task_answered"
    assert w.next(stream) is None, "the task is done"
    assert [fact.judgement.value for fact in w.facts()] == [1, 1]


def _die(*of: object) -> None:
    raise KeyboardInterrupt


def test_an_answer_that_came_in_time_is_not_given_away_while_it_is_being_written(w: World, monkeypatch):
    w.answered("x1")
    stream = w.stream(lease_s=60)
    handed = w.task(stream)
    w.now += 59
    with monkeypatch.context() as dying:
        dying.setattr(w.log, "append", _die)
        with pytest.raises(KeyboardInterrupt):
            w.say(handed, type="rating", value=1)
    w.now += 59
    assert w.next(stream, "bob") is None
    w.say(handed, type="rating", value=1)
    assert len(w.facts()) == 1


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


def test_a_paused_annotator_gets_no_tasks_until_an_operator_reinstates_them(w: World):
    w.answered("x1", "x2")
    stream = w.stream(overlap=2)
    rater = w.desk.rater(annotator("ann"), "default")
    paused = pause(Standing(), rater, "fell", since=900.0, by="watch", evidence={})
    w.log.append([event_of(paused, "default", 1000.0)])
    with pytest.raises(Forbidden) as told:
        w.next(stream)
    assert told.value.code == "rater_paused"
    assert w.next(stream, "bob") is not None
    w.log.append([event_of(reinstate(Standing(paused), "looked", 1001.0, drop=False), "default", 1001.0)])
    assert w.next(stream) is not None


def test_without_enough_golden_items_for_the_test_nothing_real_is_handed_out(w: World):
    w.answered("g1", "x1")
    stream = w.stream(entry_test={"items": 2, "share": 0.5}, source={"rule": "listed"})
    w.golden(stream, 1, "g1")
    w.items(stream, "x1")
    assert w.thumb(stream, 1) == "g1"
    assert w.next(stream) is None


def test_an_answer_whose_text_is_gone_is_shown_to_nobody(w: World, monkeypatch):
    w.answered("x1", "x2")
    stream = w.stream()
    first = w.task(stream)
    gone = first.shown[0].place.completion_id
    read = w.log.read

    def erased(*where):
        records = read(*where)
        return [r if r.event.data.completion_id != gone else _erased(r) for r in records]

    monkeypatch.setattr(w.log, "read", erased)
    with pytest.raises(Conflict) as told:
        w.say(first, type="rating", value=1)
    assert told.value.code == "task_gone"
    assert w.thumb(stream, 1) != gone
    assert w.next(stream, "bob") is None


def _erased(record):
    text = record.event.data.text.model_copy(update={"answer": "", "messages": ()})
    data = record.event.data.model_copy(update={"text": text, "sealed": "sealed"})
    return record._replace(event=record.event.model_copy(update={"data": data}))


def test_every_order_of_display_has_its_share_of_the_coin():
    assert [display_order(2, coin) for coin in (0.0, 0.49, 0.5, 0.99)] == [(0, 1), (0, 1), (1, 0), (1, 0)]
    orders = Counter(display_order(3, (n + 0.5) / 600) for n in range(600))
    assert set(orders.values()) == {100}
    assert len(orders) == 6


def test_a_pair_is_shown_by_coin_and_its_judgement_and_coin_are_kept_as_shown(w: World):
    w.answered("a1", question="q", comparison="cmp_1")
    w.answered("a2", question="q", comparison="cmp_1", position=1)
    stream = w.stream(kind="preference")
    w.coins = [0.0, 0.0, 0.7]  # which item, whether golden, and 0.7 turns the two answers round
    handed = w.task(stream)
    assert [found.place.completion_id for found in handed.shown] == ["a2", "a1"]
    w.say(handed, type="preference", value="a")
    (fact,) = w.facts()
    assert (fact.target.completion_ids, fact.target.comparison_id) == (("a2", "a1"), "cmp_1")
    assert [(e.completion_id, e.coin) for e in fact.exposures] == [("a2", 0.7), ("a1", 0.7)]


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_fifty_annotators_at_once_never_share_a_place_and_all_judgements_are_kept(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
):
    where = None if database == "sqlite" else request.getfixturevalue("postgres").create()
    with world(tmp_path, chance=random.Random(0).random, database=where) as w:
        w.answered(*(f"x{n}" for n in range(20)))
        w.answered("g1", "g2")
        stream = w.stream(overlap=3, quota=20, golden_rate=0.2, source={"rule": "listed"})
        w.items(stream, *(f"x{n}" for n in range(20)))
        w.golden(stream, 1, "g1")
        w.golden(stream, 1, "g2")
        start = threading.Barrier(50)

        def work(who: str) -> int:
            start.wait(10)
            done = 0
            while (handed := w.next(stream, who)) is not None:
                w.say(handed, who, type="rating", value=1)
                done += 1
            return done

        with ThreadPoolExecutor(50) as pool:
            done = sum(pool.map(work, [f"ann{n}" for n in range(50)]))
        facts = w.facts()
        assert len(facts) == done
        judged = Counter((fact.target.id, fact.rater) for fact in facts)
        assert set(judged.values()) == {1}
        raters = Counter(fact.target.id for fact in facts if fact.target.id.startswith("x"))
        assert raters == {f"x{n}": 3 for n in range(20)}
        with w.keys.engine.connect() as connection:
            rows = connection.execute(select(tables.tasks)).all()
        assert len(rows) == done
        assert {row.outcome for row in rows} == {"answered"}


def test_the_same_answer_ten_times_at_once_has_one_effect(w: World):
    w.answered("x1")
    handed = w.task(w.stream())
    start = threading.Barrier(10)

    def send(_: int) -> tuple[str, ...]:
        start.wait(10)
        return w.say(handed, type="rating", value=1)

    with ThreadPoolExecutor(10) as pool:
        assert len(set(pool.map(send, range(10)))) == 1
    assert len(w.facts()) == 1


def test_an_annotator_who_asks_ten_times_at_once_is_given_one_task(tmp_path: Path):
    with world(tmp_path, chance=random.Random(0).random) as w:
        w.answered(*(f"x{n}" for n in range(10)))
        stream = w.stream()
        start = threading.Barrier(10)

        def ask(_: int) -> str:
            start.wait(10)
            return w.task(stream).task.id

        with ThreadPoolExecutor(10) as pool:
            assert len(set(pool.map(ask, range(10)))) == 1
