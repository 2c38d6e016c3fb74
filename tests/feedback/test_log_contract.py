"""What every event log promises, on SQLite, on Kafka's protocol (mock cluster) and on a real Kafka."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from feedback_samples import completion, rating
from log_backends import Backend, opened_by

from feedback.codec import MAX_EVENT_BYTES
from feedback.events import FeedbackSet, Unrecognized
from feedback.join import Joiner
from feedback.log import EventConflict, EventTooLarge, LogUnavailable, OffsetOutOfRange, TopicReader
from feedback.partition import partition_of
from feedback.sqlite_log import SqliteLog

KEYS = ("c0", "c1", "c2", "c3", "c4")


def test_offsets_are_dense_and_what_is_read_is_what_was_written(backend: Backend):
    log = backend.open()
    events = [rating(f"f{n}", key=KEYS[n % 5], time=1.7e9 + n / 3) for n in range(40)]
    log.append(events)
    backend.settle()
    records = TopicReader(log, "feedback").drain()
    assert sorted((r.event for r in records), key=lambda e: e.time) == events
    for partition in range(12):
        offsets = [r.position.offset for r in records if r.position.partition == partition]
        assert offsets == list(range(log.end("feedback", partition)))
        assert log.earliest("feedback", partition) == 0


def test_the_order_of_a_key_is_kept_and_its_partition_is_the_same_everywhere(backend: Backend):
    log = backend.open()
    for start in range(0, 60, 20):
        log.append([rating(f"f{n:02}", key=KEYS[n % 5]) for n in range(start, start + 20)])
    backend.settle()
    records = TopicReader(log, "feedback").drain()
    for key in KEYS:
        names = [r.event.data.feedback_id for r in records if r.event.key == key]
        assert names == sorted(names)
        assert len(names) == 12
        assert {r.position.partition for r in records if r.event.key == key} == {partition_of(key, 12)}


def test_a_conversations_answers_and_feedback_are_in_partitions_of_one_number(backend: Backend):
    log = backend.open()
    log.append([event for key in KEYS for event in (completion(f"x-{key}", key=key), rating(f"f-{key}", key=key))])
    backend.settle()
    places = [{r.event.key: r.position.partition for r in TopicReader(log, t).drain()} for t in ("completions", "feedback")]
    assert places[0] == places[1] == {key: partition_of(key, 12) for key in KEYS}
    assert log.partitions("completions") == log.partitions("feedback")


def test_the_same_event_again_has_the_same_position_and_is_kept_once(backend: Backend):
    log = backend.open()
    first = log.append([rating("f1"), rating("f2")])
    again = log.append([rating("f2"), rating("f1"), rating("f2", time=999.0)])  # a client's retry is stamped anew
    assert again == [first[1], first[0], first[1]]
    backend.settle()
    assert [r.event.time for r in TopicReader(log, "feedback").drain()] == [200.0, 200.0]


def test_another_body_under_a_known_id_is_a_conflict_that_concerns_it_alone(backend: Backend):
    log = backend.open()
    log.append([rating("f1", value=1)])
    futures = [log.submit(e) for e in (rating("f0"), rating("f1", value=-1), rating("f1", key="c9"), rating("f2"))]
    assert [type(f.exception(10)) for f in futures] == [type(None), EventConflict, EventConflict, type(None)]
    with pytest.raises(EventConflict, match="e-f1"):
        log.append([rating("f1", value=-1)])
    backend.settle()
    values = {r.event.data.feedback_id: r.event.data.judgement.value for r in TopicReader(log, "feedback").drain()}
    assert values == {"f0": 1, "f1": 1, "f2": 1}


def test_an_event_no_broker_would_take_is_refused_and_the_log_goes_on(backend: Backend):
    log = backend.open()
    assert isinstance(log.submit(rating("f1", comment="x" * MAX_EVENT_BYTES)).exception(10), EventTooLarge)
    log.append([rating("f2", comment="x" * (MAX_EVENT_BYTES - 2000)), rating("f3")])
    backend.settle()
    assert [r.event.id for r in TopicReader(log, "feedback").drain()] == ["e-f2", "e-f3"]


def test_threads_append_at_once_and_nothing_is_lost_or_doubled(backend: Backend):
    log = backend.open()
    with ThreadPoolExecutor(8) as pool:
        done = list(
            pool.map(lambda n: log.append([rating(f"f{n}", key=f"c{n % 7}"), completion(f"x{n}", key=f"c{n % 7}")]), range(60))
        )
    positions = [position for pair in done for position in pair]
    assert len(set(positions)) == 120
    backend.settle()
    assert {r.event.id for r in TopicReader(log, "feedback").drain()} == {f"e-f{n}" for n in range(60)}
    assert {r.event.id for r in TopicReader(log, "completions").drain()} == {f"e-x{n}" for n in range(60)}


def test_a_page_is_as_long_as_asked_and_the_end_is_empty(backend: Backend):
    log = backend.open()
    log.append([rating(f"f{n}") for n in range(5)])
    backend.settle()
    partition = partition_of("c1", 12)
    assert [r.event.data.feedback_id for r in log.read("feedback", partition, 1, limit=3)] == ["f1", "f2", "f3"]
    assert [r.position.offset for r in log.read("feedback", partition, 4)] == [4]
    assert log.read("feedback", partition, 5) == []
    assert log.end("feedback", partition) == 5


def test_offsets_beyond_the_end_or_below_the_start_are_hard_errors(backend: Backend):
    log = backend.open()
    log.append([rating(f"f{n}") for n in range(5)])
    backend.settle()
    partition = partition_of("c1", 12)
    with pytest.raises(OffsetOutOfRange, match="offset 6"):
        log.read("feedback", partition, 6)
    backend.trim("feedback", partition, 3)
    reader = backend.open()
    assert (reader.earliest("feedback", partition), reader.end("feedback", partition)) == (3, 5)
    with pytest.raises(OffsetOutOfRange, match="offset 2"):
        reader.read("feedback", partition, 2)
    with pytest.raises(OffsetOutOfRange, match="offset 2"):
        TopicReader(reader, "feedback", {partition: 2}).poll()  # kept over a restart: what it relied on is gone
    assert [r.position.offset for r in reader.read("feedback", partition, 3)] == [3, 4]


def test_an_emptied_partition_goes_on_counting(backend: Backend):
    log = backend.open()
    log.append([rating("f0"), rating("f1")])
    backend.settle()
    partition = partition_of("c1", 12)
    backend.trim("feedback", partition, 2)
    emptied = backend.open()
    assert (emptied.earliest("feedback", partition), emptied.end("feedback", partition)) == (2, 2)
    log.append([rating("f2")])
    backend.settle()
    reader = backend.open()
    assert (reader.earliest("feedback", partition), reader.end("feedback", partition)) == (2, 3)


def test_a_reader_resumes_where_it_was_and_knows_its_lag(backend: Backend):
    log = backend.open()
    reader = TopicReader(log, "feedback")
    log.append([rating(f"f{n}", key=KEYS[n % 5]) for n in range(10)])
    backend.settle()
    assert len(reader.drain()) == 10
    log.append([rating("late", key="c3")])
    backend.settle()
    later = TopicReader(backend.open(), "feedback", dict(reader.offsets))
    assert later.lag() == 1
    assert [r.event.id for r in later.poll()] == ["e-late"]
    assert later.lag() == 0
    assert later.poll() == []


def test_groups_are_independent(backend: Backend):
    log = backend.open()
    log.append([rating("f1"), rating("f2")])
    backend.settle()
    partition = partition_of("c1", 12)
    assert log.committed("trainer", "feedback", partition) is None
    log.commit("trainer", "feedback", partition, 2)
    log.commit("controller", "feedback", partition, 1)
    log.commit("trainer", "completions", partition, 0)
    assert backend.open().committed("trainer", "feedback", partition) == 2
    assert log.committed("controller", "feedback", partition) == 1


def test_bytes_that_are_no_event_become_a_dead_letter_and_stall_nobody(backend: Backend):
    log = backend.open()
    log.append([rating("f1")])
    backend.settle()
    partition = partition_of("c1", 12)
    backend.put("feedback", partition, b"\xff{not json")
    log.append([rating("f2")])
    backend.settle()
    reader = TopicReader(log, "feedback")
    assert [r.event.topic for r in reader.drain()] == ["feedback", "dead-letter", "feedback"]
    assert reader.lag() == 0
    assert len(TopicReader(log, "feedback").drain()) == 3  # read again: still one letter
    log.append([rating("f3")])  # written after the letter, which nobody waits for
    backend.settle()
    (letter,) = [r.event.data for r in TopicReader(log, "dead-letter").drain()]
    assert (letter.topic, letter.partition, letter.offset, letter.body) == ("feedback", partition, 1, r"\xff{not json")
    assert letter.reason.startswith("poison: ce_specversion")


def test_a_record_of_somebody_elses_that_is_too_large_becomes_a_dead_letter_and_stalls_nobody(backend: Backend):
    log = backend.open()
    log.append([rating("f1")])
    backend.settle()
    backend.put("feedback", partition_of("c1", 12), b"x" * (MAX_EVENT_BYTES + 50_000))
    log.append([rating("f2")])
    backend.settle()
    records = TopicReader(log, "feedback").drain()
    assert [r.event.topic for r in records] == ["feedback", "dead-letter", "feedback"]
    assert len(records[1].event.data.body) == 65_536


def test_a_tombstone_keeps_its_place_and_readers_pass_it(backend: Backend):
    log = backend.open()
    log.append([rating("f1")])
    backend.settle()
    partition = partition_of("c1", 12)
    backend.put("feedback", partition, None)
    backend.put("feedback", partition, None)
    log.append([rating("f2")])
    backend.settle()
    reader = TopicReader(log, "feedback")
    records = reader.drain()
    assert [r.position.offset for r in records] == [0, 1, 2, 3]
    assert [type(r.event.data) for r in records] == [FeedbackSet, Unrecognized, Unrecognized, FeedbackSet]
    assert reader.lag() == 0
    joiner = Joiner()
    joiner.extend(records)
    assert joiner.counts.feedback_read == 2
    log.append([rating("f3")])  # written after what would have been a dead letter
    backend.settle()
    assert TopicReader(log, "dead-letter").drain() == []


def test_whether_it_can_be_written_is_found_out_by_writing_and_is_no_event(backend: Backend):
    log = backend.open()
    log.append([rating("f0")])
    backend.settle()
    with closing(sqlite3.connect(backend.disk(), isolation_level=None)) as disk:
        disk.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogUnavailable, match=r"within 0\.1 s"):
            log.check_writable(timeout=0.1)
        disk.execute("ROLLBACK")
    log.check_writable()
    backend.settle()
    assert [r.event.id for r in TopicReader(log, "feedback").drain()] == ["e-f0"]


def test_nothing_is_readable_or_acknowledged_before_it_is_on_disk(backend: Backend):
    log = backend.open()
    log.append([rating("f0")])
    backend.settle()
    with closing(sqlite3.connect(backend.disk(), isolation_level=None)) as disk:
        disk.execute("BEGIN IMMEDIATE")  # the writer waits for it, as for a disk that hangs
        futures = [log.submit(rating("f1")), log.submit(rating("f2"))]
        with pytest.raises(LogUnavailable, match=r"within 0\.2 s"):
            log.append([rating("f3")], timeout=0.2)
        assert not any(future.done() for future in futures)
        assert [r.event.id for r in TopicReader(log, "feedback").drain()] == ["e-f0"]
        disk.execute("ROLLBACK")
    for future in futures:
        future.result(5)
    log.append([rating("f3")])
    backend.settle()
    assert [r.event.id for r in TopicReader(log, "feedback").drain()] == ["e-f0", "e-f1", "e-f2", "e-f3"]


APPENDS = """
import sys
from feedback_samples import rating
from log_backends import opened_by
log = opened_by(sys.argv[2:])
for n in range(int(sys.argv[1]), 100_000):
    log.append([rating(f"f{n:06}", key=f"c{n % 5}")])
    print(n, flush=True)
"""


def test_after_sigkill_everything_acknowledged_is_there_once_in_order_and_the_next_goes_on(backend: Backend):
    folders = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*folders, os.environ.get("PYTHONPATH", "")])}
    acknowledged = 0
    for _ in range(2):
        command = [sys.executable, "-c", APPENDS, str(acknowledged), *backend.child()]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            for _ in range(150):
                acknowledged = int(process.stdout.readline()) + 1
            process.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *(int(line) + 1 for line in process.stdout if line.endswith("\n"))])
    log = opened_by(backend.child())
    backend.opened.append(log)
    backend.settle()
    records = TopicReader(log, "feedback").drain()
    kept = sorted(r.event.data.feedback_id for r in records)
    assert kept == [f"f{n:06}" for n in range(len(kept))]
    assert acknowledged <= len(kept) <= acknowledged + 1  # one more may be on disk and not yet acknowledged
    for key in KEYS:
        names = [r.event.data.feedback_id for r in records if r.event.key == key]
        assert names == sorted(names)


def test_the_same_event_through_two_gateways_is_read_once(backend: Backend):
    first, second = backend.open(), backend.open()
    for log in (first, second):
        log.append([rating("f1"), rating("f2")])
        backend.settle()
    assert [r.event.id for r in TopicReader(backend.open(), "feedback").drain()] == ["e-f1", "e-f2"]


def test_a_closed_log_acknowledges_nothing(backend: Backend):
    log = backend.open()
    log.append([rating("f1")])
    log.close()
    with pytest.raises(LogUnavailable, match="closed"):
        log.append([rating("f2")])


def test_records_read_before_the_log_fails_are_not_lost(tmp_path):
    class Failing(SqliteLog):
        left = 10**9

        def read(self, *args, **kwargs):
            self.left -= 1
            if self.left < 0:
                raise LogUnavailable("broker")
            return super().read(*args, **kwargs)

    log = Failing(tmp_path / "log.db")
    log.append([rating(f"f{n}", key=f"c{n}") for n in range(20)])
    for reads in range(1, 24):  # the failure in every place of the two rounds over twelve partitions
        reader, read = TopicReader(log, "feedback"), []
        log.left = reads
        for _ in range(2):
            with contextlib.suppress(LogUnavailable):
                read += reader.drain()
        assert log.left < 0
        log.left = reads
        with pytest.raises(LogUnavailable):
            TopicReader(log, "feedback").everything()
        log.left = 10**9
        read += reader.drain()
        assert sorted(r.event.data.feedback_id for r in read) == sorted(f"f{n}" for n in range(20)), reads
    log.close()
