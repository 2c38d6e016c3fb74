"""Kafka's ``kafka-topics.sh --create``, over the same admin protocol. What it does not know it refuses, as that one does."""

from __future__ import annotations

import argparse

from kafka import KafkaAdminClient
from kafka.errors import TopicAlreadyExistsError


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("--bootstrap-server", "--topic"):
        parser.add_argument(name, required=True)
    for name in ("--partitions", "--replication-factor"):
        parser.add_argument(name, required=True, type=int)
    parser.add_argument("--create", action="store_true", required=True)
    parser.add_argument("--if-not-exists", action="store_true")
    parser.add_argument("--config", action="append", default=[])
    given = parser.parse_args()
    options = {
        "num_partitions": given.partitions,
        "replication_factor": given.replication_factor,
        "configs": dict(config.split("=", 1) for config in given.config),
    }
    admin = KafkaAdminClient(bootstrap_servers=given.bootstrap_server)
    try:
        admin.create_topics({given.topic: options}, wait_for_metadata=True)
    except TopicAlreadyExistsError:
        if not given.if_not_exists:
            raise
    finally:
        admin.close()


if __name__ == "__main__":
    main()
