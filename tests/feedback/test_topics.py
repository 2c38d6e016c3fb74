"""What topics that somebody else made are set to, on a real Kafka."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from brokers import RealKafka, wait_until
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)
from structlog.testing import capture_logs

from feedback.cluster.client import Cluster
from feedback.cluster.topics import Topics
from feedback.events import TOPICS

DAYS = {"feedback": 1.5, "completions": 90.0}
KEPT = {"completions": "7776000000", "feedback": "129600000", "control": "-1", "dead-letter": "-1"}
"""90 and 1.5 times 86 400 000 ms."""


class World:
    """Topics of one prefix, made by somebody with a broker's tools."""

    def __init__(self, servers: str, configs: dict[str, str]) -> None:
        self.admin = AdminClient({"bootstrap.servers": servers})
        self.cluster = Cluster(servers, f"t{uuid.uuid4().hex[:8]}", 12, None)
        made = [NewTopic(self.cluster.name(topic), 12, 1, config=configs) for topic in TOPICS]
        for done in self.admin.create_topics(made).values():
            done.result(20)
        wait_until(self._known, "the broker has heard of the topics that it has made")

    def _known(self) -> bool:
        asked = [ConfigResource(ConfigResource.Type.TOPIC, self.cluster.name(topic)) for topic in TOPICS]
        return not any(future.exception(20) for future in self.admin.describe_configs(asked).values())

    def values(self, setting: str) -> dict[str, str]:
        asked = {ConfigResource(ConfigResource.Type.TOPIC, self.cluster.name(topic)): topic for topic in TOPICS}
        told = self.admin.describe_configs([*asked])
        return {asked[resource]: future.result(20)[setting].value for resource, future in told.items()}

    def wait_for(self, setting: str, values: dict[str, str]) -> None:
        """A broker hears of a change a moment after it is acknowledged."""
        wait_until(lambda: self.values(setting) == values, f"{setting} is {values}")

    @contextmanager
    def forbidden(self, *operations: AclOperation) -> Iterator[None]:
        """Everybody may do all but this to the topics of this prefix."""
        prefix = self.cluster.name("feedback").split(".")[0]
        place = (ResourceType.TOPIC, prefix, ResourcePatternType.PREFIXED, "User:*", "*")
        rules = [(AclOperation.ALL, AclPermissionType.ALLOW), *((each, AclPermissionType.DENY) for each in operations)]
        for done in self.admin.create_acls([AclBinding(*place, *rule) for rule in rules]).values():
            done.result(20)
        try:
            wait_until(lambda: not any(map(self._may, operations)), "the broker has heard of it")
            yield
        finally:
            (done,) = self.admin.delete_acls([AclBindingFilter(*place, AclOperation.ANY, AclPermissionType.ANY)]).values()
            assert len(done.result(20)) == len(rules)
            wait_until(lambda: all(map(self._may, operations)), "the broker has heard that it is permitted again")

    def _may(self, operation: AclOperation) -> bool:
        resource = ConfigResource(ConfigResource.Type.TOPIC, self.cluster.name("feedback"))
        if operation is AclOperation.ALTER_CONFIGS:
            entry = ConfigEntry("retention.ms", "-1", incremental_operation=AlterConfigOpType.SET)
            resource.add_incremental_config(entry)
            (done,) = self.admin.incremental_alter_configs([resource], validate_only=True).values()
        else:
            (done,) = self.admin.describe_configs([resource]).values()
        return done.exception(20) is None


@pytest.fixture
def for_ever(real_kafka: RealKafka) -> World:
    return World(real_kafka.bootstrap_servers, {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"})


def test_topics_that_exist_get_the_settings_retention_and_lose_it_again(for_ever: World):
    with capture_logs() as logs:
        Topics(for_ever.cluster, 1, DAYS).hold()
    for_ever.wait_for("retention.ms", KEPT)
    said = {(each["topic"], each["setting"], each["found"], each["wanted"]) for each in logs}
    names = {topic: for_ever.cluster.name(topic) for topic in DAYS}
    assert said == {(names[topic], "retention.ms", "-1", KEPT[topic]) for topic in DAYS}
    assert {each["event"] for each in logs} == {"topic_setting_changed"}
    with capture_logs() as logs:
        Topics(for_ever.cluster, 1, DAYS).hold()
    assert logs == [], "what is as it should be is left alone"
    Topics(for_ever.cluster, 1, {}).hold()
    for_ever.wait_for("retention.ms", dict.fromkeys(TOPICS, "-1"))


def test_a_brokers_own_defaults_delete_nothing_of_ours(real_kafka: RealKafka):
    world = World(real_kafka.bootstrap_servers, {"retention.bytes": "1000000", "cleanup.policy": "compact"})
    assert set(world.values("retention.ms").values()) == {"604800000"}  # a week
    Topics(world.cluster, 1, {}).hold()
    for setting, value in {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}.items():
        world.wait_for(setting, dict.fromkeys(TOPICS, value))


@pytest.mark.parametrize(
    ("operations", "found"),
    [([AclOperation.ALTER_CONFIGS], "-1"), ([AclOperation.ALTER_CONFIGS, AclOperation.DESCRIBE_CONFIGS], "unknown")],
)
def test_where_it_is_not_permitted_a_warning_names_topic_value_found_and_value_wanted(
    real_kafka: RealKafka, for_ever: World, operations: list[AclOperation], found: str
):
    if not real_kafka.ours:
        pytest.skip("what may be done in somebody else's Kafka is left as it is")
    with for_ever.forbidden(*operations), capture_logs() as logs:
        Topics(for_ever.cluster, 1, DAYS).hold()
    name = for_ever.cluster.name("feedback")
    (warning,) = [each for each in logs if (each["topic"], each["setting"]) == (name, "retention.ms")]
    assert (warning["log_level"], warning["found"], warning["wanted"]) == ("warning", found, KEPT["feedback"])
    assert "TopicAuthorizationFailedError" in warning["reason"]
    assert "AlterConfigs" in warning["fix"]
    for_ever.wait_for("retention.ms", dict.fromkeys(TOPICS, "-1"))
