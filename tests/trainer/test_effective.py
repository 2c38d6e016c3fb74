from __future__ import annotations

from dataclasses import replace

import pytest
from test_examples import example

from trainer.effective import effective_labels


def each(count: int, rater: str, start: int = 0, **fields: object):
    return [replace(example(f"{rater}{n}", rater, f"question {rater} {n}"), **fields) for n in range(start, start + count)]


def ids(examples) -> set[str]:
    return {example.feedback_id for example in examples}


def test_votes_of_ordinary_raters_count_one_each_and_older_ones_none():
    old, new = [e for r in "abcd" for e in each(5, r)], [e for r in "abcd" for e in each(2, r, 5)]
    assert effective_labels(old + new, ids(new)) == pytest.approx(8)
    assert effective_labels(old, set()) == 0
    assert effective_labels([], set()) == 0


def test_a_lone_rater_s_votes_count():
    alone = each(6, "me")
    assert effective_labels(alone, ids(alone)) == pytest.approx(6)


def test_a_flood_counts_no_more_than_its_rater_is_heard():
    flood, others = each(100, "flood"), [e for r in "abcd" for e in each(5, r)]
    # five raters: nobody has more than 2/5, so the flood's 100 weigh as much as 2/3 of the others' 20: 13.3
    assert effective_labels(flood + others, ids(flood)) == pytest.approx(40 / 3)
    assert effective_labels(flood + others, ids(others)) == pytest.approx(20)


def test_newcomers_and_the_unreliable_count_less_and_nobody_more_than_one():
    raters = [e for r in "abc" for e in each(4, r)]
    newcomer, liar = each(4, "new", weight=0.25), each(4, "liar", flip=0.4)
    heavy = each(4, "seldom shown", weight=3.0)
    everyone = raters + newcomer + liar + heavy
    assert effective_labels(everyone, ids(newcomer)) == pytest.approx(1)  # a quarter each
    assert effective_labels(everyone, ids(liar)) == pytest.approx(0.8)  # 1 - 2 * 0.4 each
    assert effective_labels(everyone, ids(heavy)) == pytest.approx(4)


def test_the_same_said_again_by_the_same_rater_counts_once():
    said = example("1", "ann")
    again = [replace(said, feedback_id=name) for name in "23"]
    another_text, another_rater = replace(said, feedback_id="4", answers=("no",)), replace(said, feedback_id="5", rater="bob")
    others = each(4, "cid")
    assert effective_labels([said, *again, *others], {"1", "2", "3"}) == pytest.approx(1)
    assert effective_labels([said, another_text, *others], {"1", "4"}) == pytest.approx(2)
    assert effective_labels([said, another_rater, *others], {"1", "5"}) == pytest.approx(2)
    pair = replace(said, answers=("x", "y"), label="a")
    turned = replace(pair, feedback_id="6", answers=("y", "x"), label="b")
    assert effective_labels([pair, turned, *others], {"1", "6"}) == pytest.approx(1)


def test_golden_items_teach_nobody():
    votes = each(4, "a")
    gold = [replace(example("g", "a"), golden=True)]
    assert effective_labels(votes + gold, ids(votes + gold)) == pytest.approx(4)
