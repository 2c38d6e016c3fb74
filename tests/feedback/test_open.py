from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from feedback_samples import rating

from feedback.kafka_log import KafkaLog
from feedback.open import open_log


def test_a_log_opened_twice_by_its_settings_is_the_same_log(tmp_path: Path):
    first, second = open_log("sqlite", tmp_path / "new" / "log.db"), open_log("sqlite", tmp_path / "new" / "log.db")
    (position,) = first.append([rating("f1")])
    assert [record.event.id for record in second.read("feedback", position.partition, 0)] == ["e-f1"]
    first.close()
    second.close()


def test_a_sqlite_file_becomes_the_outbox_when_kafka_is_set(tmp_path: Path):
    embedded = open_log("sqlite", tmp_path / "log.db")
    embedded.append([rating("f1")])
    embedded.close()
    clustered = open_log("kafka", tmp_path / "log.db", kafka_bootstrap_servers="127.0.0.1:1")
    assert isinstance(clustered, KafkaLog)
    assert clustered.append([rating("f1")])[0].offset == 0
    assert clustered.forwarder.lag == 1
    clustered.close()


def test_without_kafka_its_client_is_not_loaded(tmp_path: Path):
    source = """import sys
from feedback.open import open_log
open_log("sqlite", sys.argv[1]).close()
print("kafka" in sys.modules)"""
    command = [sys.executable, "-c", source, str(tmp_path / "log.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "False"
