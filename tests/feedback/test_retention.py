from __future__ import annotations

from typing import Any

import pytest
from feedback_samples import completion, rating
from kafka import KafkaAdminClient

from feedback.cluster import topics
from feedback.cluster.client import Cluster
from feedback.events import TOPICS
from feedback.log import OffsetOutOfRange, TopicReader
from feedback.partition import partition_of
from feedback.retention import forget
from feedback.sqlite_log import SqliteLog

PARTITION = partition_of("c1", 12)


@pytest.fixture
def log(tmp_path):
    log = SqliteLog(tmp_path / "log.db")
    yield log
    log.close()


def names(log: SqliteLog) -> list[str]:
    return [r.event.data.feedback_id for r in TopicReader(log, "feedback").drain()]


def test_what_is_older_is_deleted_and_offsets_go_on(log):
    log.append([rating(f"f{n}", time=100.0 + n) for n in range(5)])
    assert forget(log, "feedback", before=103.0) == 3
    assert (log.earliest("feedback", PARTITION), log.end("feedback", PARTITION)) == (3, 5)
    assert names(log) == ["f3", "f4"]
    with pytest.raises(OffsetOutOfRange):
        log.read("feedback", PARTITION, 2)
    assert forget(log, "feedback", before=1e9) == 2
    assert (log.earliest("feedback", PARTITION), log.end("feedback", PARTITION)) == (5, 5)
    log.append([rating("f5", time=1e9)])
    assert names(log) == ["f5"]
    assert log.read("feedback", PARTITION, 5)[0].position.offset == 5


def test_who_has_not_begun_to_read_begins_where_the_log_then_begins_and_who_has_is_told_what_is_gone(log):
    log.append([rating(f"f{n}", time=100.0 + n) for n in range(5)])
    waiting, reading = TopicReader(log, "feedback"), TopicReader(log, "feedback")
    assert waiting.offsets[PARTITION] == 0
    assert len(reading.poll(limit=2)) == 2
    given = TopicReader(log, "feedback", {PARTITION: 1})
    forget(log, "feedback", before=103.0)
    assert [r.event.data.feedback_id for r in waiting.drain()] == ["f3", "f4"]
    for behind in (reading, given):
        with pytest.raises(OffsetOutOfRange):
            behind.drain()


def test_what_goes_before_it_was_read_leaves_no_lag(log):
    log.append([rating("f1", time=100.0)])
    waiting = TopicReader(log, "feedback")
    assert waiting.lag() == waiting.offsets[PARTITION] + 1 == 1
    forget(log, "feedback", before=1e9)
    assert waiting.drain() == []
    assert (waiting.lag(), waiting.offsets[PARTITION]) == (0, 1)


def test_other_topics_and_partitions_are_left_alone(log):
    log.append([completion("x1"), rating("f1", time=100.0), rating("f2", time=900.0, key="c2")])
    assert forget(log, "feedback", before=500.0) == 1
    assert names(log) == ["f2"]
    assert len(TopicReader(log, "completions").drain()) == 1


def test_a_partition_loses_its_beginning_only(log):
    log.append([rating(f"f{n}", time=time) for n, time in enumerate((100.0, 900.0, 101.0, 901.0))])
    assert forget(log, "feedback", before=500.0) == 1
    assert names(log) == ["f1", "f2", "f3"]


def test_more_than_one_transactions_worth_is_deleted(log):
    log.append([rating(f"f{n}", time=100.0) for n in range(8)])
    before = log.transactions
    assert forget(log, "feedback", before=500.0, at_once=3) == 8
    assert log.transactions - before == 12 + 2  # one a partition, and two more where there was something


def test_topics_of_a_cluster_are_made_with_their_retention():
    made: dict[str, dict[str, Any]] = {}

    class Admin:
        def describe_topics(self) -> list[dict[str, Any]]:
            return [{"name": "t.control.v1", "partitions": [None] * 12}]

        def create_topics(self, topics: dict[str, dict[str, Any]], wait_for_metadata: bool) -> None:
            made.update(topics)

        def close(self) -> None:
            pass

    class Pretended(Cluster):
        def open(self, kind: Any, **config: Any) -> Admin:
            return {KafkaAdminClient: Admin}[kind]()

    topics.Topics(Pretended("kafka:9092", "t", 12, None), -1, {"feedback": 1.5, "completions": 90}).ensure()
    assert {name: options["configs"]["retention.ms"] for name, options in made.items()} == {
        "t.completions.v1": "7776000000",
        "t.feedback.v1": "129600000",
        "t.dead-letter.v1": "-1",
    }
    assert len(TOPICS) == 4
