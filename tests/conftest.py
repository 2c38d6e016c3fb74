"""What all tests share: the starter model, made once and kept, what this run must not skip, and who runs where."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import brokers
import postgres as databases
import pytest
from postgres import postgres
from units import ENGINE, Scheduler, unit_of
from xdist.workermanage import WorkerController

from ops import models
from ops.models import ModelRef
from ops.process import module
from ops.settings import load_settings

__all__ = ["postgres"]

ROOT = Path(__file__).parent.parent

# For PyTorch, here and in all that tests start: two threads wait for each other wherever a core has something else to do.
os.environ.setdefault("OMP_NUM_THREADS", "1")

_training = pytest.StashKey[subprocess.Popen[bytes]]()
_dead = pytest.StashKey[list[str]]()


def _model_cache() -> Path:
    return Path(os.environ.get("PLAUDIT_TEST_MODELS", ROOT / ".plaudit" / "models"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that need the starter model come last: it is trained beside the others."""
    last = {item.path for item in items if _needs_starter(item)}
    items.sort(key=lambda item: item.path in last)
    strangers = {item.path.name for item in items if "stack" in _fixtures(item) and unit_of(item.nodeid) != ENGINE}
    if strangers:
        raise pytest.UsageError(
            f"{', '.join(sorted(strangers))}: what uses the stack belongs to the engine's unit (tests/units.py)"
        )


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.option.collectonly or not any(map(_needs_starter, session.items)):
        return
    if _worker(session.config) not in (None, "gw0"):
        return  # one trains; the others wait for the lock on the model
    folder = _model_cache()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "starter.log").open("ab") as log:
        session.config.stash[_training] = subprocess.Popen(
            module("ops.cli", "prepare", "--model", "starter"),
            env={**os.environ, "PLAUDIT_MODEL_CACHE": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def pytest_unconfigure(config: pytest.Config) -> None:
    training = config.stash.get(_training, None)
    if training is not None:
        training.kill()
        training.wait()


def _needs_starter(item: pytest.Item) -> bool:
    return "starter" in _fixtures(item)


def _fixtures(item: pytest.Item) -> Collection[str]:
    return getattr(item, "fixturenames", ())


def _worker(config: pytest.Config) -> str | None:
    """The name of this process among those of pytest-xdist; None where it is the only one, or the one that tells them."""
    return getattr(config, "workerinput", {}).get("workerid")


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduler:
    return Scheduler(config, log, starter_is_ready=lambda: models.read(_model_cache() / "starter") is not None)


@pytest.fixture(scope="session")
def model_cache() -> Path:
    """Where prepared models are kept between runs: beside those of `make run`, so that each is made once a machine."""
    return _model_cache()


@pytest.fixture(scope="session")
def starter(model_cache: Path, pytestconfig: pytest.Config) -> ModelRef:
    """The starter model, trained from its recipe the first time (two to three minutes)."""
    from trainer.models import prepare

    if (training := pytestconfig.stash.get(_training, None)) is not None:
        training.wait()
    return prepare(load_settings(model="starter", model_cache=model_cache), lambda what, share: None)


@pytest.fixture(scope="session")
def stack(starter: ModelRef, model_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A whole running Plaudit (`stack.Stack`), the only one with a real engine that tests share."""
    from stack_processes import running_stack

    with running_stack(model_cache, tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture(scope="session")
def require() -> Callable[[str, str], None]:
    """``require("kafka", reason)`` skips a test whose part is absent; where PLAUDIT_REQUIRE names the part, it fails."""

    def absent(part: str, reason: str) -> None:
        if part in os.environ.get("PLAUDIT_REQUIRE", "").split(","):
            pytest.fail(f"PLAUDIT_REQUIRE names {part}, but {reason}")
        pytest.skip(reason)

    return absent


@pytest.fixture
def free_port() -> int:
    """A port nobody listens on now, with the two above it free as well."""
    while True:
        with socket.socket() as first, socket.socket() as second, socket.socket() as third:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
                third.bind(("127.0.0.1", port + 2))
            except OSError:
                continue
            return port


def _covered() -> dict[str, list[str]]:
    return {"event log": brokers.COVERED, "database": databases.COVERED}


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _worker(session.config) is not None:
        session.config.workeroutput["covered"] = _covered()  # type: ignore[attr-defined]
    elif session.config.stash.get(_dead, []):
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR


def pytest_testnodedown(node: WorkerController, error: object | None) -> None:
    """What another process has covered; or that it died, which is red wherever it was."""
    if error is not None:
        node.config.stash.setdefault(_dead, []).append(f"{node.gateway.id}: {error}")
    for part, covered in getattr(node, "workeroutput", {}).get("covered", {}).items():
        _covered()[part] += covered


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for part, covered in _covered().items():
        terminalreporter.write_line(f"{part} covered on: " + ", ".join(dict.fromkeys(["SQLite", *covered])))
    for died in config.stash.get(_dead, []):
        terminalreporter.write_line(f"a process of the tests died: {died}", red=True)
