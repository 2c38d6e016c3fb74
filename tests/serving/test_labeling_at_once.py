"""Many annotators at once, and one who asks many times: no task is given twice, no judgement lost."""

from __future__ import annotations

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from label_world import World, world
from sqlalchemy import select

from serving.labeling import tables


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
