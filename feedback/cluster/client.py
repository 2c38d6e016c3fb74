"""Clients of kafka-python, built so that none blocks for long where nobody answers."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient
from kafka.structs import TopicPartition

from feedback.events import Topic
from feedback.forwarder import SendFailed

DEADLINE_S = 10.0
"""For one call to Kafka."""

_KNOCK_S = 2.0
"""For a broker's port to take a connection."""

_COMMON: dict[str, Any] = {"bootstrap_timeout_ms": 3000, "reconnect_backoff_max_ms": 1000, "request_timeout_ms": 5000}


class Cluster:
    """How to reach a Kafka, and what our topics are called there."""

    def __init__(self, servers: str, prefix: str, partitions: int, api_version: tuple[int, ...] | None) -> None:
        self._servers = [server.strip() for server in servers.split(",") if server.strip()]
        self._prefix = prefix
        self.partitions = partitions
        self._api_version = api_version

    def name(self, topic: Topic) -> str:
        return f"{self._prefix}.{topic}.v1"

    def place(self, topic: Topic, partition: int) -> TopicPartition:
        return TopicPartition(self.name(topic), partition)

    def open(self, kind: Callable[..., Any], **config: Any) -> Any:
        """A client of kafka-python. One whose constructor fails has started a thread by then, which ends here."""
        self._knock()
        made: list[KafkaNetClient] = []

        def make(**client_config: Any) -> KafkaNetClient:
            made.append(KafkaNetClient(**client_config))
            return made[-1]

        try:
            return kind(bootstrap_servers=self._servers, api_version=self._api_version, kafka_client=make, **(_COMMON | config))
        except (KafkaError, OSError) as error:
            for client in made:
                client.close()
            raise SendFailed(f"Kafka at {','.join(self._servers)} does not answer: {error}") from error

    def _knock(self) -> None:
        """Raises `SendFailed` at once where nobody listens: a client would look for as long as its bootstrap may take."""
        for server in self._servers:
            place = urlsplit("//" + server.rpartition("://")[2])
            with suppress(OSError), socket.create_connection((place.hostname, place.port or 9092), _KNOCK_S):
                return
        raise SendFailed(f"Kafka at {','.join(self._servers)} does not answer: nobody listens there")
