"""The forwarder against a cluster in memory that fails as it is told; Kafka itself is in test_kafka_log.py."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from brokers import wait_until
from feedback_samples import rating
from instead import Instead

from feedback.forwarder import Forwarder, RowsRefused, SendFailed
from feedback.log import LogUnavailable
from feedback.outbox import Outbox
from feedback.sqlite_log import Row, SqliteLog


class Cluster:
    """What arrived, in order; ``plan`` decides on each window: how many of its rows arrive, and what is raised then."""

    def __init__(self) -> None:
        self.wire: list[tuple[int, int]] = []
        self.connections = 0
        self.closed = 0
        self.refused: set[int] = set()
        self.plan: Callable[[Sequence[Row]], int | None] = lambda rows: None

    def connect(self) -> Cluster:
        self.connections += 1
        return self

    def send(self, rows: Sequence[Row], timeout: float) -> None:
        arrive = self.plan(rows)
        self.wire += [(row.partition, row.seq) for row in rows[:arrive] if row.seq not in self.refused]
        if arrive is not None:
            raise SendFailed("as planned")
        if refused := [(row, "too large") for row in rows if row.seq in self.refused]:
            raise RowsRefused(refused)

    def close(self) -> None:
        self.closed += 1


Start = Callable[..., Forwarder]


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    log = SqliteLog(tmp_path / "outbox.db")
    yield Outbox(log)
    log.close()


@pytest.fixture
def start(outbox: Outbox) -> Iterator[Start]:
    running: list[Forwarder] = []

    def start_one(cluster: Cluster, outbox: Outbox = outbox, **options: object) -> Forwarder:
        running.append(Forwarder(outbox, cluster.connect, longest_pause_s=0.01, **options))
        return running[-1]

    yield start_one
    for forwarder in running:
        forwarder.close()


def test_rows_go_out_in_order_and_the_cursor_follows(outbox: Outbox, start: Start):
    cluster = Cluster()
    forwarder = start(cluster)
    outbox.log.append([rating(f"f{n}", key=f"c{n % 5}") for n in range(1200)])
    wait_until(lambda: forwarder.lag == 0, "all forwarded")
    assert [seq for _, seq in cluster.wire] == list(range(1, 1201))
    assert outbox.cursor() == 1200
    assert (forwarder.forwarded, forwarder.rebuilds, cluster.connections) == (1200, 0, 1)


def test_after_any_failures_everything_is_there_and_first_copies_are_in_order(outbox: Outbox, start: Start):
    dice = random.Random(7)
    cluster = Cluster()
    cluster.plan = lambda rows: dice.randrange(len(rows) + 1) if dice.random() < 0.5 else None
    forwarder = start(cluster)
    for n in range(40):
        outbox.log.append([rating(f"f{n}-{m}", key=f"c{m % 7}") for m in range(20)])
    wait_until(lambda: forwarder.lag == 0, "all forwarded")
    firsts = list(dict.fromkeys(cluster.wire))
    assert len(firsts) == 800
    for partition in range(12):
        order = [seq for p, seq in firsts if p == partition]
        assert order == sorted(order)
    assert forwarder.rebuilds > 0
    assert (cluster.connections, cluster.closed) == (forwarder.rebuilds + 1, forwarder.rebuilds)


def test_a_row_the_cluster_never_takes_becomes_a_dead_letter_and_stalls_nobody(outbox: Outbox, start: Start):
    cluster = Cluster()
    cluster.refused = {2}
    forwarder = start(cluster)
    outbox.log.append([rating("f1"), rating("f2"), rating("f3")])
    wait_until(lambda: forwarder.lag == 0, "all forwarded")
    assert [seq for _, seq in cluster.wire] == [1, 3, 4]  # 4 is the letter
    (letter,) = [r.event.data for p in range(12) for r in outbox.log.read("dead-letter", p, 0)]
    assert (letter.reason, letter.topic, letter.offset) == ("refused: too large", "feedback", 1)
    assert forwarder.rebuilds == 0


def test_the_age_of_the_oldest_unsent_event_grows_until_it_is_sent(outbox: Outbox, start: Start):
    cluster = Cluster()
    cluster.plan = lambda rows: 0
    now = 1000.0
    outbox.log.append([rating("f1", time=990.0), rating("f2", time=995.0)])
    forwarder = start(cluster, clock=lambda: now)
    assert forwarder.oldest_s == 10.0
    now = 1050.0
    assert forwarder.oldest_s == 60.0
    outbox.log.append([rating("from a clock that is ahead", time=9e9)])
    cluster.plan = lambda rows: None
    wait_until(lambda: forwarder.lag == 0, "all forwarded")
    assert forwarder.oldest_s == 0.0


def test_a_refused_row_is_kept_for_ever_and_sent_once_more_when_asked(outbox: Outbox, start: Start):
    cluster = Cluster()
    cluster.refused = {2}
    forwarder = start(cluster, keep_s=float("inf"))
    outbox.log.append([rating("f1"), rating("f2", comment="large"), rating("f3")])
    wait_until(lambda: forwarder.lag == 0, "all but one forwarded")
    [letter] = [r.event.data for p in range(12) for r in outbox.log.read("dead-letter", p, 0)]
    assert outbox.forget(before=1e12) == 3  # f1, f3 and the letter: the refused row is nowhere else
    assert [row.seq for row in outbox.after(0, rows=9, size=10**6)] == [2]
    assert not outbox.resend(letter.model_copy(update={"body": "of another outbox's row"}))
    assert outbox.resend(letter)
    wait_until(lambda: cluster.wire[-1][1] == 5, "sent under a new number")
    assert not outbox.resend(letter)  # it is done
    wait_until(lambda: forwarder.lag == 0, "noted")
    assert outbox.log.append([rating("f2", comment="large")])[0].offset == 3  # its id is still its own
    assert outbox.forget(before=1e12) == 1


def test_only_one_of_two_forwarders_sends_and_the_other_takes_over(outbox: Outbox, start: Start):
    first, second = Cluster(), Cluster()
    outbox.log.append([rating("f1")])
    leader = start(first)
    wait_until(lambda: leader.lag == 0, "the first forwards")
    start(second)
    outbox.log.append([rating("f2")])
    wait_until(lambda: leader.lag == 0, "the first forwards on")
    assert (len(first.wire), len(second.wire)) == (2, 0)
    leader.close()
    outbox.log.append([rating("f3")])
    wait_until(lambda: second.wire, "the second takes over")
    assert [seq for _, seq in first.wire + second.wire] == [1, 2, 3]


def test_another_process_appends_and_it_is_forwarded_too(outbox: Outbox, start: Start, tmp_path: Path):
    cluster = Cluster()
    start(cluster)
    other = SqliteLog(tmp_path / "outbox.db")
    other.append([rating("f1")])
    other.close()
    wait_until(lambda: cluster.wire, "found by polling")


def test_what_was_sent_and_not_noted_is_sent_again_by_the_next(outbox: Outbox, start: Start):
    cluster = Cluster()
    forwarder = start(cluster, keep_s=1e12)  # what is old is not deleted meanwhile
    outbox.log.append([rating("f1"), rating("f2")])
    wait_until(lambda: forwarder.lag == 0, "all forwarded")
    forwarder.close()
    outbox.log.transact(lambda c: c.execute("UPDATE facts SET value = 1 WHERE name = 'forwarded'").rowcount).result(5)
    again = start(cluster, keep_s=1e12)
    wait_until(lambda: again.lag == 0, "sent again")
    assert [seq for _, seq in cluster.wire] == [1, 2, 2]


def test_close_sends_what_is_left_and_does_not_wait_for_a_cluster_that_is_away(outbox: Outbox, start: Start):
    hold = threading.Event()
    cluster = Cluster()

    def wait_for_close(rows: Sequence[Row]) -> None:
        hold.wait(5)

    cluster.plan = wait_for_close
    forwarder = start(cluster)
    outbox.log.append([rating("f1")])
    wait_until(lambda: cluster.connections, "sending")
    outbox.log.append([rating("f2")])
    threading.Timer(0.1, hold.set).start()
    forwarder.close()
    assert [seq for _, seq in cluster.wire] == [1, 2]
    away = Cluster()
    away.plan = lambda rows: 0
    outbox.log.append([rating("f3")])
    start(away).close(grace_s=0.1)
    assert outbox.lag() == 1


def test_forwarded_rows_are_kept_until_the_horizon_and_others_for_ever(outbox: Outbox, start: Start):
    outbox.log.append([rating(f"f{n}", time=float(n)) for n in range(10)])
    outbox.advance(5, [])  # f0..f4 are forwarded
    assert outbox.forget(before=3.0) == 3
    assert outbox.forget(before=3.0) == 0
    assert outbox.forget(before=100.0) == 2
    assert [row.seq for row in outbox.after(0, rows=100, size=10**6)] == [6, 7, 8, 9, 10]
    assert outbox.log.append([rating("new")])[0].offset == 10


def test_the_forwarder_itself_forgets_what_is_old(outbox: Outbox, start: Start):
    outbox.log.append([rating("old", time=0.0), rating("new", time=950.0)])
    start(Cluster(), keep_s=100.0, clock=lambda: 1000.0)
    wait_until(lambda: [row.seq for row in outbox.after(0, rows=9, size=10**6)] == [2], "the old row is gone")


def test_the_cursor_never_moves_back(outbox: Outbox):
    outbox.advance(5, [])
    outbox.advance(3, [])
    assert outbox.cursor() == 5


def test_a_window_ends_at_its_size_but_holds_one_row_at_least(outbox: Outbox):
    outbox.log.append([rating(f"f{n}", comment="x" * 1000) for n in range(5)])
    assert len(outbox.after(0, rows=100, size=3 * 2000)) in (3, 4)
    assert [row.seq for row in outbox.after(2, rows=100, size=1)] == [3]
    assert [row.seq for row in outbox.after(2, rows=2, size=10**6)] == [3, 4]


def test_a_disk_that_fails_for_a_while_ends_nothing(outbox: Outbox, start: Start):
    cluster = Cluster()
    failures = iter([True, True])

    def advance(seq: int, letters: list) -> None:
        if next(failures, False):
            raise LogUnavailable("disk full")
        outbox.advance(seq, letters)

    forwarder = start(cluster, Instead(outbox, advance=advance))
    outbox.log.append([rating("f1")])
    wait_until(lambda: forwarder.lag == 0, "noted in the end")
    assert [seq for _, seq in cluster.wire] == [1, 1, 1]
    assert forwarder.alive
