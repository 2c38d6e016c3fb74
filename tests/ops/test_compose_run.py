"""Every service of docker-compose.yml, run without containers: real Kafka, real PostgreSQL, our own real commands.

A scripted engine stands for the two that run vLLM (their command is run with the real one in tests/e2e).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from brokers import COVERED, wait_until
from chat_upstream import ChatUpstream
from compose_file import SECRETS, SERVICES, Services
from compose_kafka import ComposedKafka, topics_program
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource
from postgres import OWNER, PASSWORD, PostgresServer

from feedback.cluster.client import Cluster
from feedback.cluster.topics import Topics
from feedback.codec import decode
from feedback.events import TOPICS, FeedbackSet
from feedback.log import PARTITIONS
from ops.bench.children import free_ports
from ops.models import ModelRef
from ops.retention import days_of
from ops.settings import Settings

RETENTION_MS = {"completions": "8640000000", "feedback": "5184000000", "control": "-1", "dead-letter": "-1"}
"""100 and 60 days."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """For /data: with a short name, since the engine's socket is in it."""
    with tempfile.TemporaryDirectory(prefix="compose-") as name:
        yield Path(name)


@pytest.fixture
def kafka_home(require: Callable[[str, str], None]) -> Path:
    home = os.environ.get("PLAUDIT_KAFKA_HOME")
    if not home or not shutil.which("java"):
        require("kafka", "the compose file's Kafka needs PLAUDIT_KAFKA_HOME, a folder with libs/*.jar, and java")
    assert home
    return Path(home).absolute()


@pytest.fixture
def services(folder: Path, postgres: PostgresServer, model_cache: Path, starter: ModelRef) -> Iterator[Services]:
    broker, quorum, gateway, admin, trainer, controller = free_ports(6)
    places = {
        "/data": str(folder),
        "/var/lib/kafka" + str(folder): str(folder / "kafka"),
        "/opt/kafka/bin": str(topics_program(folder)),
        "kafka:9092": f"127.0.0.1:{broker}",
        "kafka:9093": f"127.0.0.1:{quorum}",
        "//:9092": f"//127.0.0.1:{broker}",
        "//:9093": f"//127.0.0.1:{quorum}",
        "postgres:5432": f"127.0.0.1:{postgres.port}",
        "pg_isready": str(postgres.home / "pg_isready"),
        "--port=5432": f"--port={postgres.port}",
        "0.0.0.0": "127.0.0.1",
        "127.0.0.1:8000/": f"127.0.0.1:{gateway}/",
        "127.0.0.1:9101/": f"127.0.0.1:{trainer}/",
        "127.0.0.1:9102/": f"127.0.0.1:{controller}/",
    }
    more = {
        "PLAUDIT_PORT": str(gateway),
        "PLAUDIT_ADMIN_PORT": str(admin),
        "PLAUDIT_METRICS_PORT_TRAINER": str(trainer),
        "PLAUDIT_METRICS_PORT_CONTROLLER": str(controller),
        "PLAUDIT_MODEL_CACHE": str(model_cache.absolute()),
    }
    variables = SECRETS | {
        "PLAUDIT_MODEL": "starter",
        "PLAUDIT_DATABASE_PASSWORD": PASSWORD,
        "PLAUDIT_RETENTION__COMPLETIONS_DAYS": "100",
        "PLAUDIT_RETENTION__FEEDBACK_DAYS": "60",
    }
    made = Services(folder, variables, places, more)
    yield made
    made.kill()


@pytest.fixture
def kafka(services: Services, kafka_home: Path, folder: Path) -> Iterator[ComposedKafka]:
    made = ComposedKafka(kafka_home, folder, services.here)
    COVERED.append("Apache Kafka with docker-compose.yml's settings")
    yield made
    made.close()


def topics_of(address: str, prefix: str) -> dict[str, tuple[int, dict[str, str]]]:
    """Partitions of every topic of ours, and all that is configured of it."""
    admin = AdminClient({"bootstrap.servers": address})
    found = admin.list_topics(timeout=20).topics
    asked = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in found if name.startswith(f"{prefix}.")]
    configs = {resource.name: future.result(20) for resource, future in admin.describe_configs(asked).items()}
    return {
        name.removeprefix(f"{prefix}."): (len(found[name].partitions), {key: entry.value for key, entry in config.items()})
        for name, config in configs.items()
    }


def retention_in(address: str) -> dict[str, str]:
    return {name.removesuffix(".v1"): config["retention.ms"] for name, (_, config) in topics_of(address, "plaudit").items()}


def feedback_in(address: str) -> dict[str, FeedbackSet]:
    """The feedback in Kafka by its id, as another client than ours reads it."""
    consumer = Consumer(
        {"bootstrap.servers": address, "group.id": "test", "enable.auto.commit": False, "enable.partition.eof": True}
    )
    consumer.assign([TopicPartition("plaudit.feedback.v1", number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
    found, ended = {}, 0
    while ended < PARTITIONS:
        message = consumer.poll(20)
        assert message is not None
        if message.error() is not None:
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            ended += 1
            continue
        event = decode(message.value(), message.headers())
        assert isinstance(event.data, FeedbackSet)
        found[event.id] = event.data
    consumer.close()
    return found


@pytest.mark.timeout(400)  # prepared models are made the first time
def test_every_service_runs_as_the_file_says_and_a_vote_is_in_kafka_and_a_key_in_postgres(
    services: Services, kafka: ComposedKafka, postgres: PostgresServer, folder: Path
):
    made = SERVICES["postgres"]["environment"]
    assert made["POSTGRES_USER"] == OWNER
    database = postgres.create(made["POSTGRES_DB"])
    services.wait_until_healthy("postgres")
    kafka.wait_until_healthy()
    services.ready.add("kafka")
    for _ in range(2):  # as every `docker compose up` does
        services.run_to_the_end("kafka-init")
    address = services.here("kafka:9092")
    Topics(Cluster(address, "as-we-make-them", PARTITIONS, None), 1, days_of(Settings().retention)).ensure()
    made_by_us = topics_of(address, "as-we-make-them")
    assert topics_of(address, "plaudit") == made_by_us
    assert set(made_by_us) == {f"{topic}.v1" for topic in TOPICS}
    services.run_to_the_end("prepare")
    (folder / "run").mkdir(exist_ok=True)
    with ChatUpstream(path=folder / "run" / "engine.sock"):
        services.wait_until_healthy("vllm")
        for name in ("gateway", "trainer", "controller"):
            services.start(name)
        for name in ("gateway", "trainer", "controller"):
            services.wait_until_healthy(name)
        wait_until(lambda: retention_in(address) == RETENTION_MS, "the controller has set the topics' retention", 30)
        secret = services.run("gateway", "plaudit", "keys", "create", "--project", "default", "--role", "app").strip()
        url = f"http://127.0.0.1:{services.more['PLAUDIT_PORT']}/v1"
        with httpx.Client(base_url=url, headers={"authorization": f"Bearer {secret}"}, timeout=30) as client:
            question = {"model": "default", "messages": [{"role": "user", "content": "hello"}]}
            answer = client.post("/chat/completions", json=question)
            assert answer.status_code == 200, answer.text
            vote = {"type": "rating", "value": 1, "receipt": answer.json()["plaudit"]["receipt"]}
            reply = client.post("/feedback", json=vote)
            assert reply.status_code == 201, reply.text
        metrics = services.here("http://127.0.0.1:9101/metrics")
        wait_until(lambda: "plaudit_joined_votes 1.0" in httpx.get(metrics).text, "the trainer has the vote", 30)
        assert services.stop() == {"gateway": 0, "trainer": 0, "controller": 0}
    assert feedback_in(address)[reply.json()["id"]].target.completion_ids == (answer.json()["id"],)
    with psycopg.connect(database) as connection:
        keys = connection.execute("SELECT project, role, name FROM keys ORDER BY created").fetchall()
    assert keys == [("default", "app", "first"), ("default", "app", "")]
    assert not list(folder.rglob("plaudit.db"))
