"""librdkafka's in-memory mock cluster: the Kafka protocol, and brokers that break on command.

It is in the wheel of ``confluent-kafka``, which is otherwise not needed (the extra ``test`` has it). The functions are those
of librdkafka's ``rdkafka_mock.h``. It keeps at most 100 000 messages or 5 MiB a partition.
"""

from __future__ import annotations

import ctypes
import importlib.util
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from ctypes import POINTER, c_char_p, c_int, c_int16, c_int32, c_size_t, c_void_p
from pathlib import Path
from typing import Any

from ops.chaos.scenario import NotRun

MOCK_API_VERSION = (2, 3)
"""kafka-python cannot find out the mock cluster's version by itself."""

PRODUCE = 0
"""The API key of produce requests."""

_PRODUCER = 0
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "rd_kafka_conf_new": (c_void_p, []),
    "rd_kafka_new": (c_void_p, [c_int, c_void_p, c_char_p, c_size_t]),
    "rd_kafka_destroy": (None, [c_void_p]),
    "rd_kafka_mock_cluster_new": (c_void_p, [c_void_p, c_int]),
    "rd_kafka_mock_cluster_destroy": (None, [c_void_p]),
    "rd_kafka_mock_cluster_bootstraps": (c_char_p, [c_void_p]),
    "rd_kafka_mock_topic_create": (c_int, [c_void_p, c_char_p, c_int, c_int]),
    "rd_kafka_mock_broker_set_down": (c_int, [c_void_p, c_int32]),
    "rd_kafka_mock_broker_set_up": (c_int, [c_void_p, c_int32]),
    "rd_kafka_mock_broker_set_rtt": (c_int, [c_void_p, c_int32, c_int]),
    "rd_kafka_mock_partition_set_leader": (c_int, [c_void_p, c_char_p, c_int32, c_int32]),
    "rd_kafka_mock_push_request_errors_array": (None, [c_void_p, c_int16, c_size_t, POINTER(c_int)]),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [c_void_p, c_int32]),
}


class MockCluster:
    """Brokers in this process. Raises `NotRun` where the wheel is missing."""

    def __init__(self, brokers: int = 3) -> None:
        self._lib = ctypes.CDLL(str(_library()))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self._lib, name)
            function.restype, function.argtypes = result, arguments
        error = ctypes.create_string_buffer(512)
        self._handle = self._lib.rd_kafka_new(_PRODUCER, self._lib.rd_kafka_conf_new(), error, len(error))
        if not self._handle:
            raise RuntimeError(error.value.decode())
        self._cluster = self._lib.rd_kafka_mock_cluster_new(self._handle, brokers)
        self._lib.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self.brokers = range(1, brokers + 1)
        self.bootstrap_servers: str = self._lib.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def close(self) -> None:
        self._lib.rd_kafka_mock_cluster_destroy(self._cluster)
        self._lib.rd_kafka_destroy(self._handle)

    def create_topics(self, names: list[str], partitions: int) -> None:
        with self._awake():
            for name in names:
                self._check(self._lib.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1))

    @contextmanager
    def _awake(self) -> Iterator[None]:
        """The cluster's thread looks for calls like ours once a second, and whenever somebody connects."""
        host, port = self.bootstrap_servers.split(",")[0].split(":")
        done = threading.Event()

        def connect() -> None:
            while not done.wait(0.01):
                with suppress(OSError):
                    socket.create_connection((host, int(port)), 1).close()

        thread = threading.Thread(target=connect)
        thread.start()
        yield
        done.set()
        thread.join()

    def down(self) -> None:
        for broker in self.brokers:
            self._check(self._lib.rd_kafka_mock_broker_set_down(self._cluster, broker))

    def up(self) -> None:
        for broker in self.brokers:
            self._check(self._lib.rd_kafka_mock_broker_set_up(self._cluster, broker))

    def set_latency(self, milliseconds: int) -> None:
        for broker in self.brokers:
            self._check(self._lib.rd_kafka_mock_broker_set_rtt(self._cluster, broker, milliseconds))

    def move_leader(self, topic: str, partition: int, broker: int) -> None:
        self.move_leaders(topic, [partition], broker)

    def move_leaders(self, topic: str, partitions: Iterable[int], broker: int) -> None:
        with self._awake():
            for partition in partitions:
                self._check(self._lib.rd_kafka_mock_partition_set_leader(self._cluster, topic.encode(), partition, broker))

    def inject_errors(self, api_key: int, *codes: int) -> None:
        """Answer the next requests of one API (0 = Produce, 1 = Fetch, …) with these Kafka error codes, in turn."""
        array = (c_int * len(codes))(*codes)
        self._lib.rd_kafka_mock_push_request_errors_array(self._cluster, api_key, len(codes), array)

    @staticmethod
    def _check(error: int) -> None:
        if error:
            raise RuntimeError(f"librdkafka's mock cluster answered error {error}")


def _library() -> Path:
    found = importlib.util.find_spec("confluent_kafka")
    if found is None or found.origin is None:
        raise NotRun("the Python package confluent-kafka is not installed: pip install confluent-kafka")
    bundled = sorted((Path(found.origin).parent.parent / "confluent_kafka.libs").glob("librdkafka-*.so*"))
    if not bundled:
        raise NotRun("confluent-kafka was not installed from its wheel: there is no librdkafka beside it")
    return bundled[0]
