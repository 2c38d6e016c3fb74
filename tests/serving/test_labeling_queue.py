"""Tasks in SQL: who gets which, for how long, and what an answer does to them."""

from __future__ import annotations

from collections import Counter

import pytest
from instead import Instead
from label_world import World, annotator

from feedback.raters.standing import Standing, event_of, pause, reinstate
from serving.errors import Conflict, Forbidden, NotFound
from serving.labeling.desk import display_order


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


def test_an_answer_that_reached_the_log_before_its_gateway_died_is_the_one_that_counts(w: World):
    w.answered("x1", "x2")
    stream = w.stream()
    handed = w.task(stream)
    with w.desk_with(queue=Instead(w.queue, finish=_die)), pytest.raises(KeyboardInterrupt):
        w.say(handed, type="rating", value=1)
    w.now += 7  # the repeated request is stamped anew, but says the same
    w.say(handed, type="rating", value=1)
    assert [fact.judgement.value for fact in w.facts()] == [1]
    handed = w.task(stream)
    with w.desk_with(queue=Instead(w.queue, finish=_die)), pytest.raises(KeyboardInterrupt):
        w.say(handed, type="rating", value=1)
    with pytest.raises(Conflict) as told:
        w.say(handed, type="rating", value=-1)
    assert told.value.code == "task_answered"
    assert w.next(stream) is None, "the task is done"
    assert [fact.judgement.value for fact in w.facts()] == [1, 1]


def _die(*of: object) -> None:
    raise KeyboardInterrupt


def test_an_answer_that_came_in_time_is_not_given_away_while_it_is_being_written(w: World):
    w.answered("x1")
    stream = w.stream(lease_s=60)
    handed = w.task(stream)
    w.now += 59
    with w.desk_with(log=Instead(w.log, append=_die)), pytest.raises(KeyboardInterrupt):
        w.say(handed, type="rating", value=1)
    w.now += 59
    assert w.next(stream, "bob") is None
    w.say(handed, type="rating", value=1)
    assert len(w.facts()) == 1


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


def test_an_answer_whose_text_is_gone_is_shown_to_nobody(w: World):
    w.answered("x1", "x2")
    stream = w.stream()
    first = w.task(stream)
    gone = first.shown[0].place.completion_id

    def erased(*where):
        return [r if r.event.data.completion_id != gone else _erased(r) for r in w.log.read(*where)]

    with w.desk_with(log=Instead(w.log, read=erased)):
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
