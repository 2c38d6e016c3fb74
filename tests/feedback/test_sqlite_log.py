"""What the SQLite log promises beyond the contract: durability, group commit, and many processes on one file."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from brokers import wait_until
from feedback_samples import rating

from feedback.database import Writer, connect
from feedback.log import LogError, LogUnavailable, TopicReader
from feedback.sqlite_log import SqliteLog

Open = Callable[..., SqliteLog]


def everything(log: SqliteLog) -> list[str]:
    return [record.event.data.feedback_id for record in TopicReader(log, "feedback").drain()]


def run_python(source: str, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.Popen([sys.executable, "-c", source, *arguments], stdout=subprocess.PIPE, text=True, env=environment)


def test_every_commit_is_synced_to_disk(opened: Open, tmp_path: Path):
    log = opened()
    pragma = log.transact(lambda c: (c.execute("PRAGMA journal_mode").fetchone(), c.execute("PRAGMA synchronous").fetchone()))
    assert pragma.result(5) == (("wal",), (2,))  # 2 is FULL: the WAL is synced at each commit
    other = connect(tmp_path / "log.db")
    assert other.execute("PRAGMA synchronous").fetchone() == (2,)
    other.close()


def test_what_waits_together_is_committed_together(opened: Open, tmp_path: Path):
    log = opened()
    before = log.transactions
    with_lock = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    with_lock.execute("BEGIN IMMEDIATE")
    futures = [log.submit(rating(f"f{n}")) for n in range(200)]
    with_lock.execute("ROLLBACK")
    with_lock.close()
    assert [future.result(5).offset for future in futures] == list(range(200))
    assert 1 <= log.transactions - before <= 3  # the first may go alone


def test_events_that_come_one_by_one_are_committed_one_by_one(opened: Open):
    log = opened()
    before = log.transactions
    for n in range(5):
        log.append([rating(f"f{n}")])
    assert log.transactions - before == 5


WRITER = """
import sys
from feedback_samples import rating
from feedback.sqlite_log import SqliteLog
log = SqliteLog(sys.argv[1])
for n in range(100):
    log.append([rating(f"{sys.argv[2]}-{n}", key=f"c{n % 5}"), rating(f"both-{n}", key=f"c{n % 5}")])
"""


def test_processes_make_one_new_file_and_append_to_it_at_once(opened: Open, tmp_path: Path):
    processes = [run_python(WRITER, str(tmp_path / "log.db"), f"p{n}") for n in range(4)]
    for process in processes:
        assert process.wait(60) == 0
        assert process.stdout is not None
        process.stdout.close()
    log = opened()
    kept = everything(log)
    assert sorted(kept) == sorted([f"p{p}-{n}" for p in range(4) for n in range(100)] + [f"both-{n}" for n in range(100)])
    for partition in range(12):
        assert [r.position.offset for r in log.read("feedback", partition, 0)] == list(range(log.end("feedback", partition)))


def test_a_full_disk_is_never_acknowledged_and_writing_goes_on_when_there_is_room(opened: Open):
    log = opened()
    log.append([rating("before")])
    pages = log.transact(lambda c: c.execute("PRAGMA page_count").fetchone()[0]).result(5)
    log.transact(lambda c: c.execute(f"PRAGMA max_page_count={pages}").fetchone()).result(5)
    for n in range(3):
        with pytest.raises(LogUnavailable, match="full"):
            log.append([rating(f"big{n}", comment="x" * 100_000)])
    assert everything(log) == ["before"]
    log.transact(lambda c: c.execute("PRAGMA max_page_count=1000000").fetchone()).result(5)
    log.append([rating("big0", comment="x" * 100_000)])
    assert everything(log) == ["before", "big0"]


def test_a_disk_that_takes_no_byte_is_noticed_before_the_first_event(opened: Open):
    log = opened()
    log.check_writable()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(LogUnavailable, match="could not be written"):
            log.check_writable()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    log.check_writable()


def test_more_than_may_wait_for_the_disk_are_refused_and_those_that_wait_are_kept(opened: Open, tmp_path: Path):
    log = opened(most_waiting=10)
    with_lock = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    with_lock.execute("BEGIN IMMEDIATE")
    futures = [log.submit(rating(f"f{n}")) for n in range(100)]
    with_lock.execute("ROLLBACK")
    with_lock.close()
    refused = [f"f{n}" for n, future in enumerate(futures) if isinstance(future.exception(5), LogUnavailable)]
    assert len(refused) >= 50  # the writer may have taken some before it met the lock
    assert "are waiting for the disk" in str(futures[-1].exception())
    assert sorted(everything(log)) == sorted({f"f{n}" for n in range(100)} - set(refused))


def test_one_event_too_many_for_the_disk_refuses_its_whole_transaction(opened: Open, tmp_path: Path):
    log = opened()
    pages = log.transact(lambda c: c.execute("PRAGMA page_count").fetchone()[0]).result(5)
    log.transact(lambda c: c.execute(f"PRAGMA max_page_count={pages + 2}").fetchone()).result(5)
    with_lock = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    with_lock.execute("BEGIN IMMEDIATE")
    futures = [log.submit(rating(f"f{n}", comment="x" * 5000)) for n in range(10)]
    with_lock.execute("ROLLBACK")
    with_lock.close()
    refused = {f"f{n}" for n, future in enumerate(futures) if isinstance(future.exception(5), LogUnavailable)}
    assert refused
    assert set(everything(log)) == {f"f{n}" for n in range(10)} - refused


def test_a_transaction_that_fails_half_way_leaves_nothing_and_the_next_works(opened: Open):
    log = opened()

    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO groups VALUES ('half', 'feedback', 0, 1)")
        connection.execute("INSERT INTO groups VALUES ('half', 'feedback', 0, 1)")

    with pytest.raises(LogUnavailable, match="UNIQUE"):
        log.transact(half).result(5)
    log.append([rating("f1")])
    assert log.committed("half", "feedback", 0) is None


def test_a_file_that_cannot_be_written_is_refused_at_once(opened: Open, tmp_path: Path):
    opened().close()
    writing = connect(tmp_path / "log.db")
    writing.execute("PRAGMA query_only=ON")  # as a file system gone read-only: root may write to any file
    writer = Writer(writing)
    with pytest.raises(LogUnavailable, match="readonly"):
        writer.submit(lambda c: c.execute("DELETE FROM events").rowcount).result(5)
    writer.close()
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(LogUnavailable, match="cannot be opened"):
        SqliteLog(tmp_path / "file" / "log.db")
    (tmp_path / "other.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(LogUnavailable, match="not a database"):
        SqliteLog(tmp_path / "other.db")


def test_a_file_keeps_its_number_of_partitions(opened: Open):
    opened(partitions=12).close()
    with pytest.raises(LogError, match="made with 12"):
        opened(partitions=6)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the bug is ours, on purpose
def test_a_bug_in_a_job_ends_the_writer_and_leaves_nobody_waiting(tmp_path: Path):
    SqliteLog(tmp_path / "log.db").close()
    writer = Writer(connect(tmp_path / "log.db"))
    bug = writer.submit(lambda c: 1 // 0)
    with pytest.raises(LogUnavailable, match="stopped"):
        bug.result(5)
    wait_until(lambda: isinstance(writer.submit(lambda c: 1).exception(5), LogUnavailable), "later jobs are refused")
    writer.close()


def test_close_writes_what_waits_first(opened: Open):
    log = opened()
    futures = [log.submit(rating(f"f{n}")) for n in range(300)]
    log.close()
    assert all(future.done() and future.exception() is None for future in futures)
    assert len(everything(opened())) == 300


def test_a_cancelled_event_is_not_written(opened: Open, tmp_path: Path):
    log = opened()
    with_lock = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    with_lock.execute("BEGIN IMMEDIATE")
    log.submit(rating("f0"))
    futures = [log.submit(rating(f"f{n}")) for n in range(1, 4)]
    cancelled = {n for n, future in enumerate(futures, 1) if future.cancel()}
    with_lock.execute("ROLLBACK")
    with_lock.close()
    log.append([rating("last")])
    assert set(everything(log)) == {"f0", "last"} | {f"f{n}" for n in range(1, 4) if n not in cancelled}
