"""In which process a test runs, and when, where the suite has several (``make test``: pytest-xdist).

What shares something dear to start is one unit of work: one process, in sequence, in the order in which it is collected. Every
other file is a unit of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

ENGINE = "engine"

UNITS = {
    # Real vLLM, started once for all who can share it; two at a time would starve each other.
    ENGINE: (
        "tests/contract/test_curl.py",
        "tests/contract/test_langchain.py",
        "tests/contract/test_openai_sdk.py",
        "tests/e2e/",
    ),
    "kafka": (
        "tests/feedback/test_forwarder.py",
        "tests/feedback/test_kafka_log.py",
        "tests/feedback/test_log_contract.py",
        "tests/feedback/test_open.py",
        "tests/feedback/test_replay.py",
        "tests/feedback/test_retention.py",
        "tests/feedback/test_topics.py",
    ),
}


def unit_of(nodeid: str) -> str:
    """The unit of a test's node id: one of `UNITS`, else its file."""
    file = nodeid.split("::")[0]
    return next((unit for unit, paths in UNITS.items() if file.startswith(paths)), file)


class Scheduler(LoadScopeScheduling):
    """Hands out units as they were collected, but the engine's, which are the longest, once the starter model is there."""

    def __init__(self, config: pytest.Config, log: object, *, starter_is_ready: Callable[[], bool]) -> None:
        super().__init__(config, log)  # type: ignore[arg-type]
        self._starter_is_ready = starter_is_ready

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        if ENGINE in self.workqueue and self._starter_is_ready():
            self.workqueue.move_to_end(ENGINE, last=False)
        super()._assign_work_unit(node)
