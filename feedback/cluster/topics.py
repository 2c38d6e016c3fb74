"""Our topics in a cluster: made where they are missing, and kept at the settings that they are made with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import structlog
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource
from kafka.errors import KafkaError, TopicAlreadyExistsError

from feedback.cluster.client import Cluster
from feedback.events import TOPICS, Topic
from feedback.forwarder import SendFailed
from feedback.log import LogError, LogUnavailable

_DAY_MS = 86_400_000

_logger = structlog.get_logger(__name__)


class Topics:
    """``replication_factor`` of topics that have to be made, -1: the broker's default; ``retention_days`` of all, for ever where
    none are given.

    The control topic is not compacted either. The latest change of a project would do for what is deployed now, but the
    controller replays them all: which rollouts there were, what each promotion cost of the error budget, and which
    adapters were refused follow from its history. It grows by a few events a rollout.
    """

    def __init__(self, cluster: Cluster, replication_factor: int, retention_days: Mapping[Topic, float]) -> None:
        self._cluster, self._replication_factor, self._days = cluster, replication_factor, retention_days

    def ensure(self) -> None:
        """Create what is missing; those that exist are left as they are. Raises `SendFailed`, `LogError` on a wrong count."""
        names = {self._cluster.name(topic): topic for topic in TOPICS}
        with self._admin() as admin:
            found = {t["name"]: len(t["partitions"]) for t in admin.describe_topics() if t["name"] in names}
            missing = {
                name: {
                    "num_partitions": self._cluster.partitions,
                    "replication_factor": self._replication_factor,
                    "configs": self._settings(topic),
                }
                for name, topic in names.items()
                if name not in found
            }
            if missing:
                with suppress(TopicAlreadyExistsError):
                    admin.create_topics(missing, wait_for_metadata=True)
        for name, partitions in found.items():
            if partitions != self._cluster.partitions:
                raise LogError(f"topic {name} has {partitions} partitions, not {self._cluster.partitions}: they never change")

    def hold(self) -> None:
        """Give each topic the settings that it would be made with, whoever made it. What is changed is logged.

        So is what the cluster does not let us change, with what was found and what was wanted. Raises `LogUnavailable` where
        it cannot be asked.
        """
        try:
            self.ensure()
            with self._admin() as admin:
                for topic in TOPICS:
                    _hold(admin, self._cluster.name(topic), self._settings(topic))
        except SendFailed as error:
            raise LogUnavailable(str(error)) from error

    def _settings(self, topic: Topic) -> dict[str, str]:
        days = self._days.get(topic)
        return {
            "retention.ms": "-1" if days is None else str(int(days * _DAY_MS)),
            "retention.bytes": "-1",
            "cleanup.policy": "delete",
        }

    @contextmanager
    def _admin(self) -> Iterator[Any]:
        admin = self._cluster.open(KafkaAdminClient)
        try:
            yield admin
        except (KafkaError, OSError) as error:
            raise SendFailed(f"Kafka's topics cannot be looked up, made or changed: {error}") from error
        finally:
            admin.close()


def _hold(admin: Any, name: str, wanted: dict[str, str]) -> None:
    found = _found(admin, name, wanted)
    if found == wanted:
        return
    differing = {key: value for key, value in wanted.items() if found[key] != value}
    resource = ConfigResource("topic", name, differing)
    outcome = _tried(lambda: admin.alter_configs([resource], raise_on_unknown=False)["topic"][name])
    for key, value in differing.items():
        if outcome == "OK":
            _logger.info("topic_setting_changed", topic=name, setting=key, found=found[key], wanted=value)
        else:
            _logger.warning(
                "topic_setting_not_changed", topic=name, setting=key, found=found[key], wanted=value, reason=outcome, fix=_FIX
            )


_FIX = "allow this user to DescribeConfigs and AlterConfigs on the topic, or set it with kafka-configs.sh"


def _found(admin: Any, name: str, wanted: Mapping[str, str]) -> dict[str, str]:
    """What is set now; where the cluster does not tell, "unknown"."""
    resource = ConfigResource("topic", name, [*wanted])
    told = _tried(lambda: admin.describe_configs([resource], config_filter="all")["topic"][name])
    return {key: told[key]["value"] if isinstance(told, dict) and key in told else "unknown" for key in wanted}


def _tried(ask: Callable[[], Any]) -> Any:
    """The answer, or why there is none. An error that may pass is raised."""
    try:
        return ask()
    except KafkaError as error:
        if error.retriable:
            raise
        return str(error)
