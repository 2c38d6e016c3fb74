"""What all tests share: the starter model, made once and kept, and what this run must not skip."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres import COVERED, postgres

from ops.models import ModelRef
from ops.process import module
from ops.settings import load_settings

__all__ = ["postgres"]

ROOT = Path(__file__).parent.parent


_training = pytest.StashKey[subprocess.Popen[bytes]]()
_NICE = 10


def _model_cache() -> Path:
    return Path(os.environ.get("PLAUDIT_TEST_MODELS", ROOT / ".plaudit" / "models"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need the starter model come last: it is trained beside the others."""
    items.sort(key=_needs_starter)


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.option.collectonly or not any(map(_needs_starter, session.items)):
        return
    folder = _model_cache()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "starter.log").open("ab") as log:
        session.config.stash[_training] = subprocess.Popen(
            module("ops.cli", "prepare", "--model", "starter"),
            env={**os.environ, "PLAUDIT_MODEL_CACHE": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=lambda: os.nice(_NICE),
        )


def pytest_unconfigure(config: pytest.Config) -> None:
    training = config.stash.get(_training, None)
    if training is not None:
        training.kill()
        training.wait()


def _needs_starter(item: pytest.Item) -> bool:
    return "starter" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session")
def model_cache() -> Path:
    """Where prepared models are kept between runs: beside those of `make run`, so that each is made once a machine."""
    return _model_cache()


@pytest.fixture(scope="session")
def starter(model_cache: Path, pytestconfig: pytest.Config) -> ModelRef:
    """The starter model, trained from its recipe the first time (two to three minutes)."""
    from trainer.models import prepare

    pytestconfig.stash[_training].wait()
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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line("database covered on: " + ", ".join(["SQLite", *COVERED]))
