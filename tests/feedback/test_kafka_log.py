"""What the log promises while Kafka is away, breaks, or dies; the contract itself is in test_log_contract.py."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from pathlib import Path

import jsonschema
import pytest
from brokers import MockCluster, RealKafka, wait_until
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic
from feedback_samples import rating
from log_backends import KafkaBackend

from feedback.cluster import sender
from feedback.kafka_log import KafkaLog
from feedback.log import EventLog, LogError, LogUnavailable, TopicReader
from feedback.partition import partition_of
from feedback.schema import FOLDER
from ops.dead_letters import letters_of, requeue

PRODUCE = 0


def numbers(log: EventLog, key: str) -> list[int]:
    """The numbers of a key's events, in the order in which a reader sees them."""
    return [int(r.event.data.feedback_id[1:]) for r in TopicReader(log, "feedback").drain() if r.event.key == key]


def append(log: EventLog, start: int, end: int) -> None:
    log.append([rating(f"f{n}", key=f"c{n % 5}") for n in range(start, end)])


def check_all(log: EventLog, end: int) -> None:
    """Everything arrived, each once, in order per key."""
    for key in range(5):
        assert numbers(log, f"c{key}") == list(range(key, end, 5))


def test_without_kafka_it_opens_and_acknowledges_at_once_and_drains_later(on_mock_kafka: KafkaBackend, mock_kafka: MockCluster):
    mock_kafka.down()
    started = time.monotonic()
    log = on_mock_kafka.open()
    append(log, 0, 10)
    assert time.monotonic() - started < 1.0
    assert log.forwarder.lag == 10
    append(log, 10, 20)
    mock_kafka.up()
    on_mock_kafka.settle()
    check_all(log, 20)


@pytest.mark.parametrize("servers", ["127.0.0.1:1", "[::1]:1,localhost:1", "PLAINTEXT://127.0.0.1:1"])
def test_reading_without_kafka_says_so_at_once(tmp_path: Path, servers: str):
    log = KafkaLog(tmp_path / "outbox.db", servers)
    started = time.monotonic()
    with pytest.raises(LogUnavailable, match="nobody listens"):
        log.end("feedback", 0)
    assert time.monotonic() - started < 0.5
    log.close()


class Wedging(KafkaLog):
    """kafka-python 3.0.12: once a batch of an idempotent producer has timed out, none of its later ones ever goes through."""

    def _connect(self) -> sender.KafkaSender:
        self.create_topics()
        wedging = {"enable_idempotence": True, "delivery_timeout_ms": 1500, "request_timeout_ms": 1000, "linger_ms": 0}
        return sender.KafkaSender(self._cluster, **wedging)


def test_a_producer_that_wedges_is_given_up_and_its_successor_sends_everything(
    on_mock_kafka: KafkaBackend, mock_kafka: MockCluster
):
    log = on_mock_kafka.open(kind=Wedging, ack_timeout_s=3)
    append(log, 0, 20)
    on_mock_kafka.settle()
    mock_kafka.set_latency(4000)  # sent, not answered, sent again, given up
    append(log, 20, 40)
    wait_until(lambda: log.forwarder.rebuilds >= 1, "the wedged producer is given up")
    mock_kafka.set_latency(0)
    append(log, 40, 60)
    on_mock_kafka.settle()
    check_all(log, 60)


def test_the_producer_is_one_that_cannot_wedge_and_keeps_order():
    safe = {"enable_idempotence": False, "max_in_flight_requests_per_connection": 1, "acks": "all"}
    assert safe.items() <= sender._PRODUCER.items()


def test_a_broker_down_for_longer_than_the_watchdog_waits_wedges_nothing(on_mock_kafka: KafkaBackend, mock_kafka: MockCluster):
    log = on_mock_kafka.open(ack_timeout_s=0.5)
    append(log, 0, 50)
    on_mock_kafka.settle()
    mock_kafka.down()
    for start in range(50, 150, 10):
        append(log, start, start + 10)
    wait_until(lambda: log.forwarder.rebuilds >= 1, "the watchdog gives the producer up")
    assert log.forwarder.lag == 100
    mock_kafka.up()
    append(log, 150, 200)
    on_mock_kafka.settle()
    check_all(log, 200)


def test_a_producer_answered_too_late_is_given_up_and_copies_are_dropped(on_mock_kafka: KafkaBackend, mock_kafka: MockCluster):
    log = on_mock_kafka.open(ack_timeout_s=0.3)
    append(log, 0, 20)
    on_mock_kafka.settle()
    mock_kafka.set_latency(1500)  # the broker stores what it is sent, and answers too late
    append(log, 20, 60)
    wait_until(lambda: log.forwarder.rebuilds >= 1, "the watchdog gives the producer up")
    mock_kafka.set_latency(0)
    on_mock_kafka.settle()
    check_all(log, 60)


def test_errors_of_the_broker_and_moved_leaders_lose_and_reorder_nothing(on_mock_kafka: KafkaBackend, mock_kafka: MockCluster):
    log = on_mock_kafka.open(ack_timeout_s=3)
    for round_number, error in enumerate([6, 7, 19, 20, 45, 59]):
        mock_kafka.inject_errors(PRODUCE, *[error] * 3)
        mock_kafka.move_leader(f"{on_mock_kafka.prefix}.feedback.v1", partition_of("c1", 12), 1 + round_number % 3)
        append(log, 20 * round_number, 20 * round_number + 20)
        on_mock_kafka.settle()
    check_all(log, 120)


def test_events_stored_twice_are_read_once_and_offsets_stay_kafkas(on_mock_kafka: KafkaBackend):
    log = on_mock_kafka.open("same.db")
    append(log, 0, 20)
    on_mock_kafka.settle()
    log.close()
    with sqlite3.connect(on_mock_kafka.folder / "same.db") as connection:
        connection.execute("DELETE FROM facts WHERE name = 'forwarded'")  # as after SIGKILL between the ack and the note
    connection.close()
    on_mock_kafka.opened.clear()
    again = on_mock_kafka.open("same.db")
    on_mock_kafka.settle()
    assert sum(again.end("feedback", p) for p in range(12)) == 40
    check_all(again, 20)
    reader = TopicReader(again, "feedback")
    assert len(reader.drain()) == 20
    assert (sum(reader.offsets.values()), reader.lag()) == (40, 0)
    page = TopicReader(again, "feedback")
    assert [len(page.poll(limit=2)) for _ in range(2)] == [10, 10]  # four events and their four copies in each partition
    assert page.poll(limit=2) == []
    assert page.lag() == 0


def test_another_kafka_client_reads_cloud_events_that_fit_their_schemas(on_mock_kafka: KafkaBackend):
    log = on_mock_kafka.open()
    log.append([rating("f1", comment="naïve")])
    on_mock_kafka.settle()
    consumer = Consumer({"bootstrap.servers": on_mock_kafka.servers, "group.id": "reader", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(f"{on_mock_kafka.prefix}.feedback.v1", partition_of("c1", 12), 0)])
    message = consumer.poll(10)
    consumer.close()
    assert message.error() is None
    headers = dict(message.headers())
    assert (message.key(), headers["ce_subject"], headers["ce_id"]) == (b"c1", b"c1", b"e-f1")
    assert (headers["ce_specversion"], headers["content-type"]) == (b"1.0", b"application/json")
    schema = json.loads((FOLDER / f"{headers['ce_type'].decode()}.json").read_text())
    jsonschema.validate(json.loads(message.value()), schema)


def test_librdkafka_puts_a_key_where_we_do(on_mock_kafka: KafkaBackend):
    producer = Producer({"bootstrap.servers": on_mock_kafka.servers, "partitioner": "murmur2"})
    found: dict[str, int] = {}
    keys = ["c1", "kéy", "21", "a-little-bit-long-string", "p"]
    for key in keys:
        name = f"{on_mock_kafka.prefix}.feedback.v1"
        producer.produce(name, key=key, value=b"x", on_delivery=lambda _, m: found.update({m.key().decode(): m.partition()}))
    assert producer.flush(10) == 0
    assert found == {key: partition_of(key, 12) for key in keys}


def test_pages_of_a_long_partition_come_without_a_stall_also_when_a_short_one_is_read_in_between(on_mock_kafka: KafkaBackend):
    long, short = sorted(["c1", "c2"], key=lambda key: partition_of(key, 12))  # read in this order, each time round
    log = on_mock_kafka.open()
    log.append([*(rating(f"f{n}", key=long) for n in range(30)), rating("f30", key=short)])
    on_mock_kafka.settle()
    reader = TopicReader(log, "feedback")
    pages = [[int(r.event.data.feedback_id[1:]) for r in reader.poll(limit=10)] for _ in range(4)]
    assert pages == [[*range(10), 30], [*range(10, 20)], [*range(20, 30)], []]


def test_topics_with_another_number_of_partitions_are_refused_and_events_wait(mock_kafka: MockCluster, tmp_path: Path):
    mock_kafka.create_topics(["wrong.feedback.v1", "wrong.completions.v1", "wrong.control.v1", "wrong.dead-letter.v1"], 4)
    log = KafkaLog(tmp_path / "outbox.db", mock_kafka.bootstrap_servers, "wrong", api_version=(2, 3))
    log.append([rating("f1")])
    with pytest.raises(LogError, match="has 4 partitions, not 12"):
        log.create_topics()
    assert log.forwarder.lag == 1
    log.close()


def on_real(kafka: RealKafka, folder: Path) -> KafkaBackend:
    return KafkaBackend("real", folder, kafka.bootstrap_servers, None)


def test_an_event_too_large_for_a_brokers_own_limit_goes_to_the_dead_letters(real_kafka: RealKafka, tmp_path: Path):
    backend = on_real(real_kafka, tmp_path)
    topic = NewTopic(f"{backend.prefix}.feedback.v1", 12, 1, config={"max.message.bytes": "20000"})
    admin = AdminClient({"bootstrap.servers": backend.servers})
    admin.create_topics([topic])[topic.topic].result(10)
    log = backend.open()
    log.append([rating("f0"), rating("f1", comment="x" * 30_000), rating("f2")])
    backend.settle()
    assert numbers(log, "c1") == [0, 2]
    (letter,) = [r.event.data for r in TopicReader(log, "dead-letter").drain()]
    assert letter.reason.startswith("refused: ")
    assert '"feedback_id":"f1"' in letter.body
    assert log.forwarder.rebuilds == 0
    [requeued] = requeue(log, letters_of(log, "p"))
    backend.settle()
    assert requeued.outcome == "requeued"
    assert numbers(log, "c1") == [0, 2]  # refused again
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic.topic)
    resource.add_incremental_config(ConfigEntry("max.message.bytes", "1000000", incremental_operation=AlterConfigOpType.SET))
    admin.incremental_alter_configs([resource])[resource].result(10)
    wait_until(lambda: "1000000" in str(admin.describe_configs([resource])[resource].result(10)["max.message.bytes"]), "set")
    assert sorted(each.outcome for each in requeue(log, letters_of(log, "p"))) == ["gone", "requeued"]
    backend.settle()
    assert numbers(log, "c1") == [0, 2, 1]
    backend.close()


def test_topics_are_made_as_often_as_asked_and_kept_for_ever(real_kafka: RealKafka, tmp_path: Path):
    backend = on_real(real_kafka, tmp_path)
    log = backend.open()
    log.create_topics()
    log.create_topics()
    resource = ConfigResource(ConfigResource.Type.TOPIC, f"{backend.prefix}.feedback.v1")
    admin = AdminClient({"bootstrap.servers": backend.servers})
    (described,) = admin.describe_configs([resource]).values()
    settings = described.result(10)
    assert (settings["retention.ms"].value, settings["cleanup.policy"].value) == ("-1", "delete")
    assert log.end("feedback", 11) == 0
    backend.close()


def test_a_broker_killed_and_started_again_gets_everything_in_order(real_kafka: RealKafka, tmp_path: Path):
    if not real_kafka.ours:
        pytest.skip("somebody else's Kafka is not killed")
    backend = on_real(real_kafka, tmp_path)
    log = backend.open(ack_timeout_s=2)
    append(log, 0, 50)
    backend.settle()
    real_kafka.stop(signal.SIGKILL)
    append(log, 50, 100)
    later = backend.open()  # another gateway, started while Kafka is away
    later.append([rating("f1000", key="c-later")])
    real_kafka.start()
    append(log, 100, 150)
    backend.settle()
    check_all(log, 150)
    assert numbers(later, "c-later") == [1000]
    backend.close()
