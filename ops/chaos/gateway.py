"""``plaudit serve`` over a stub of an engine, in a folder of its own, to be killed and started again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from feedback.sqlite_log import SqliteLog
from ops.bench.children import stop, wait_for
from ops.bench.targets import gateway_settings, stub
from ops.chaos.ledger import everything
from ops.chaos.scenario import Size, wait_until
from ops.cli import load
from ops.environment import environment_of
from ops.errors import CommandError
from ops.ports import check_port
from ops.process import die_with_parent, module
from ops.settings import Settings

START_S = 60.0


class Gateway:
    """``key`` is an API key of its project. Its log file stays the same through all its lives."""

    def __init__(self, settings: Settings, key: str) -> None:
        self.settings, self.key = settings, key
        self.port = settings.port
        self.url = f"http://{settings.host}:{settings.port}"
        self._output = settings.run_dir / "gateway.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns at once."""
        self._output.parent.mkdir(parents=True, exist_ok=True)
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                module("ops.cli", "serve"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment_of(self.settings),
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def wait_ready(self) -> None:
        assert self._process is not None
        wait_for(f"{self.url}/readyz", self._process, self._output, START_S)

    def kill(self) -> None:
        """SIGKILL to the parent and its workers at once, as a machine that loses power would; its port is free then."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        wait_until(self._is_gone, "the killed gateway's port is free", 10)

    def stop(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                stop(self._process)

    @property
    def pid(self) -> int:
        """Of its parent process."""
        assert self._process is not None
        return self._process.pid

    def processes(self) -> list[int]:
        """Its parent and what that has started, in this order (Linux)."""
        others = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != self.pid]
        return [self.pid, *(pid for pid in others if _group_of(pid) == self.pid)]

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def worker(self) -> int:
        """Process id of its only worker."""
        (pid,) = json.loads((self.settings.run_dir / "gateway.json").read_text())["workers"]
        return int(pid)

    @contextmanager
    def log(self) -> Iterator[SqliteLog]:
        """Its log, opened beside it."""
        log = SqliteLog(self.settings.log_path)
        try:
            yield log
        finally:
            log.close()

    def wait_captured(self, completions: set[str]) -> None:
        """Until the log has these answers: they are written a little after they were given."""

        def known() -> set[str]:
            with self.log() as log:
                records = everything(log, "completions")
            return {id for record in records if (id := getattr(record.event.data, "completion_id", None)) is not None}

        wait_until(lambda: completions <= known(), "the answers are in the log", 20)

    def _is_gone(self) -> bool:
        try:
            check_port("port", self.settings.host, self.port)
        except CommandError:
            return False
        return True


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


@contextmanager
def opened(folder: Path, size: Size) -> Iterator[Gateway]:
    """A gateway that is ready."""
    with stub(folder, None) as upstream:
        settings = gateway_settings(folder, upstream.url, workers=1)
        gateway = Gateway(settings, _key(settings))
        gateway.start()
        try:
            gateway.wait_ready()
            yield gateway
        finally:
            gateway.stop()


def _key(settings: Settings) -> str:
    make: Callable[..., object] = load("serving.keys:KeyStore")
    store = make(settings.database_path)
    try:
        store.ensure_project(settings.project)  # type: ignore[attr-defined]
        return str(store.create(project=settings.project, role="app", name="chaos")[0])  # type: ignore[attr-defined]
    finally:
        store.close()  # type: ignore[attr-defined]
