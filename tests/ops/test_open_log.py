"""What is told of a log that cannot be read."""

from __future__ import annotations

from pathlib import Path

from ops import metrics
from ops.open_log import open_settings_log
from ops.settings import load_settings


def test_metrics_are_told_also_when_the_outbox_cannot_be_read(tmp_path: Path):
    log = open_settings_log(load_settings(data_dir=tmp_path, log_backend="kafka", kafka_bootstrap_servers="127.0.0.1:1"))
    assert b"plaudit_forward_lag_events 0.0" in metrics.render(metrics.LOG)
    log.close()
    page = metrics.render(metrics.LOG)
    assert b"plaudit_forward_lag_events NaN" in page
    assert b"plaudit_forward_oldest_seconds NaN" in page
