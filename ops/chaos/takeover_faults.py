"""Who may do what: processes that are stopped and come back, that die, and readers that come and go."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

from feedback.kafka_log import KafkaLog
from ops.chaos.broker_faults import flowing
from ops.chaos.kafka import Mock
from ops.chaos.ledger import Ledger
from ops.chaos.reader import GROUP, effects
from ops.chaos.scenario import Outcome, Size, Stuck, pause, wait_until
from ops.chaos.writers import Writer, writing
from ops.cli import load
from ops.process import die_with_parent, module

_STOPPED_S = 1.0
_IN_FLIGHT_S = 0.5
"""By then the brokers have what a process had sent before it was stopped."""


def zombies_fenced(mock: Mock, size: Size) -> Outcome:
    """Who forwards, or trains, is stopped: nobody takes its place before it is dead, and then somebody does at once."""
    rounds, leases = (10, 50) if size == "full" else (1, 2)
    topics, ledger = mock.topics(), Ledger()
    recovery, first, problems = 0.0, 0, list[str]()
    log_file = topics.folder / "writers.log"
    with topics.log(outbox=topics.folder / f"{topics.prefix}-reader.db") as cluster:
        for _ in range(rounds):
            with writing(topics.task(0, -1), Ledger(), log_file) as zombie:
                zombie.wait_ready()
                with writing(topics.task(first, first + 100_000, pause_s=0.005), ledger, log_file) as heir:
                    _wait_more(cluster)
                    problems += _stop_and_go(zombie, cluster)
                    zombie.process.send_signal(signal.SIGSTOP)
                    zombie.kill()
                    recovery = max(recovery, _wait_more(cluster))
                    heir.kill()
                    first = heir.next
        problems += [problem for number in range(leases) if (problem := _lease(topics.folder / f"lease {number}"))]
    with topics.log() as log:
        return topics.check(log, ledger, rounds + leases, recovery, *problems)


def readers_come_and_go(mock: Mock, size: Size) -> Outcome:
    """A reader is killed again and again while foreign members join and leave its group: it reads on where it was."""
    kills = 50 if size == "full" else 3
    topics, recovery = mock.topics(), 0.0
    state = topics.folder / f"{topics.prefix}-read.db"
    with flowing(topics, per_s=40.0) as flow:
        for _ in range(kills):
            with _reading(state, json.dumps(asdict(topics.task(0, -1)))) as process, _member(topics.servers, topics.name()):
                seen = len(effects(state))
                recovery = max(recovery, _wait_read(state, seen + 1))
                process.send_signal(signal.SIGKILL)
    with topics.log() as log, _reading(state, json.dumps(asdict(topics.task(0, -1)))):
        outcome = topics.check(log, flow.ledger, kills, recovery)
        _wait_read(state, outcome.acknowledged)
    return Outcome(kills, *flow.ledger.tally(effects(state)), recovery_s=recovery, problems=outcome.problems, note=outcome.note)


def _wait_read(state: Path, count: int) -> float:
    return wait_until(lambda: len(effects(state)) >= count, f"the reader has read {count} events", 120)


def _stop_and_go(zombie: Writer, cluster: KafkaLog) -> list[str]:
    """Stop the one who forwards, look on, let it go on."""
    zombie.process.send_signal(signal.SIGSTOP)
    pause(_IN_FLIGHT_S)
    before = _stored(cluster)
    pause(_STOPPED_S)
    after = _stored(cluster)
    zombie.process.send_signal(signal.SIGCONT)
    _wait_more(cluster)
    return (
        [] if after == before else [f"{after - before} events were forwarded by another while the one who forwards was stopped"]
    )


def _stored(cluster: KafkaLog) -> int:
    return sum(cluster.end("feedback", partition) for partition in range(cluster.partitions("feedback")))


def _wait_more(cluster: KafkaLog) -> float:
    before = _stored(cluster)
    return wait_until(lambda: _stored(cluster) > before, "events arrive", 60)


def _lease(folder: Path) -> str:
    """What is wrong with the trainer's lease; nothing: while its holder is stopped it is refused, and free once that is dead."""
    with _holder(folder) as first:
        if _word(first) != "held":
            return "the first trainer did not get its lease"
        first.send_signal(signal.SIGSTOP)
        with _holder(folder) as second:
            if _word(second) != "busy":
                return "a second trainer got the lease of one that was stopped"
        first.send_signal(signal.SIGKILL)
        first.wait()
        with _holder(folder) as third:
            return "" if _word(third) == "held" else "the lease of a dead trainer was not free"


def _word(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    word = process.stdout.readline().strip()
    if not word:
        raise Stuck("a process that asks for the trainer's lease ended without a word")
    return word


@contextmanager
def _holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    with _process("ops.chaos.holder", str(folder)) as process:
        yield process


@contextmanager
def _reading(state: Path, task: str) -> Iterator[subprocess.Popen[str]]:
    with _process("ops.chaos.reader", str(state), task) as process:
        yield process


@contextmanager
def _process(name: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        module(name, *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def _member(servers: str, topic: str) -> Iterator[None]:
    """A foreign consumer in the readers' group: brokers hand it partitions, which means nothing to our readers."""
    consumer = load("confluent_kafka:Consumer")(
        {"bootstrap.servers": servers, "group.id": GROUP, "session.timeout.ms": 6000, "auto.offset.reset": "earliest"}
    )
    with closing(consumer):
        consumer.subscribe([topic])
        consumer.poll(0.5)
        yield
