"""What Kafka does to the events on their way out of the outbox."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from feedback.kafka_log import KafkaLog
from feedback.log import PARTITIONS
from ops.chaos.kafka import Mock, Real, Topics
from ops.chaos.ledger import Ledger
from ops.chaos.mock_kafka import PRODUCE
from ops.chaos.proxy import Mode
from ops.chaos.scenario import Outcome, Size, pause, wait_until
from ops.chaos.writers import Source, writing

ERRORS = (6, 7, 19, 20, 45, 59)
"""NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS (also after append), OUT_OF_ORDER_SEQUENCE_NUMBER,
UNKNOWN_PRODUCER_ID."""


class Flow:
    """Events that flow through an outbox into Kafka, and how the forwarder comes through."""

    def __init__(self, log: KafkaLog, source: Source) -> None:
        self.log, self.ledger = log, source.ledger
        self.recovery_s = 0.0
        self.faults = 0
        self.rebuilds = 0
        """Producers given up; as of the last fault."""

    @contextmanager
    def fault(self) -> Iterator[None]:
        """A fault lasts as long as the block; feedback is taken all the while, and arrives again afterwards."""
        taken = self.ledger.total
        yield
        wait_until(lambda: self.ledger.total > taken, "events are taken while Kafka fails", 10)
        self.faults += 1
        arrived = self.log.forwarder.forwarded
        again = wait_until(lambda: self.log.forwarder.forwarded > arrived, "events arrive again", 120)
        self.recovery_s = max(self.recovery_s, again)
        self.rebuilds = self.log.forwarder.rebuilds


@contextmanager
def flowing(topics: Topics, *, ack_timeout_s: float = 2.0, per_s: float = 200.0) -> Iterator[Flow]:
    with topics.log(ack_timeout_s=ack_timeout_s) as log, Source(log, "key", per_s=per_s) as source:
        wait_until(lambda: log.forwarder.forwarded > 0, "the first events are in Kafka", 60)
        yield Flow(log, source)


def _checked(topics: Topics, flow: Flow, *, felt: bool = False) -> Outcome:
    """After the source has stopped. ``felt``: the fault must have made the forwarder give a producer up."""
    problems = ["the forwarder noticed nothing"] if felt and not flow.rebuilds else []
    with topics.log() as log:
        return topics.check(log, flow.ledger, flow.faults, flow.recovery_s, *problems, note=f"{flow.rebuilds} producers given up")


def forwarder_killed(mock: Mock, size: Size) -> Outcome:
    """SIGKILL to the process that has the outbox and forwards it, again and again; each starts where the last one ended."""
    kills, each = (100, 400) if size == "full" else (4, 400)
    topics, dice = mock.topics(), random.Random(2)
    ledger, first = Ledger(), 0
    for _ in range(kills):
        with writing(topics.task(first, first + 10 * each), ledger, topics.folder / "writers.log") as writer:
            ledger.wait_for(ledger.total + each // 2 + dice.randrange(each), 60)
            writer.kill()
            first = max(first, writer.next)
    with topics.log() as log:
        started = wait_until(lambda: log.forwarder.forwarded > 0, "the next process forwards", 60)
        return topics.check(log, ledger, kills, started)


def brokers_down(mock: Mock, size: Size) -> Outcome:
    """All brokers are down for 1, 7 and (full) 150 s."""
    topics = mock.topics()
    with flowing(topics) as flow:
        for seconds in (1, 7, 150) if size == "full" else (1, 7):
            with flow.fault():
                mock.cluster.down()
                pause(seconds)
                mock.cluster.up()
    return _checked(topics, flow, felt=True)


def brokers_hung(mock: Mock, size: Size) -> Outcome:
    """Brokers take what they are sent, store it, and answer far too late: 30 s, or 3 s in the short form."""
    topics = mock.topics()
    with flowing(topics, ack_timeout_s=2.0 if size == "full" else 0.5) as flow:
        for seconds in (30, 30) if size == "full" else (3,):
            with flow.fault():
                mock.cluster.set_latency(1000 * seconds)
                pause(seconds)
                mock.cluster.set_latency(0)
    return _checked(topics, flow, felt=True)


def broker_errors(mock: Mock, size: Size) -> Outcome:
    """Brokers answer produce requests with each of Kafka's errors, 30 times each (3 in the short form)."""
    times = 30 if size == "full" else 3
    topics = mock.topics()
    with flowing(topics) as flow:
        for error in ERRORS:
            for _ in range(times):
                with flow.fault():
                    mock.cluster.inject_errors(PRODUCE, error)
    return _checked(topics, flow)


def leaders_moved(mock: Mock, size: Size) -> Outcome:
    """All partitions move to the next broker, and to the next."""
    topics, brokers = mock.topics(), mock.cluster.brokers
    with flowing(topics) as flow:
        for move in range(100 if size == "full" else 6):
            with flow.fault():
                mock.cluster.move_leaders(topics.name(), range(PARTITIONS), brokers[move % len(brokers)])
                pause(0.1)
    return _checked(topics, flow)


def broker_killed(real: Real, size: Size) -> Outcome:
    """A real broker is killed with SIGKILL and started again."""
    topics = real.topics()
    with flowing(topics) as flow:
        for _ in range(20 if size == "full" else 1):
            with flow.fault():
                real.kafka.stop(signal.SIGKILL)
                real.kafka.start()
    return _checked(topics, flow)


def bad_network(real: Real, size: Size) -> Outcome:
    """Between forwarder and broker: connections reset, connections on which nothing comes any more, answers 500 ms late."""
    topics = real.topics()
    faults: tuple[Mode, ...] = ("reset", "mute", "slow")
    with flowing(topics) as flow:
        for _ in range(10 if size == "full" else 1):
            for mode in faults:
                with flow.fault():
                    real.proxy.mode = mode
                    pause(3.0)
                    real.proxy.mode = "pass"
    return _checked(topics, flow, felt=True)
