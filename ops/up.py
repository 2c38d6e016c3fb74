"""``plaudit up``: the whole of Plaudit on one machine, under one supervisor."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock, Timeout

from ops.cli import load
from ops.environment import environment_of
from ops.errors import CommandError
from ops.logs import configure_logs
from ops.models import prepared
from ops.ports import check_port
from ops.process import module
from ops.registry import Registry
from ops.settings import Settings
from ops.supervisor import ChildSpec, Supervisor

PROCESSES = ("engine", "serve", "train", "control")


def child_specs(settings: Settings) -> list[ChildSpec]:
    """One child per process; without the engine where engines run elsewhere."""
    names = [name for name in PROCESSES if name != "engine" or not settings.engine_urls]
    command = module("ops.cli")
    log_names = {"engine": "keeper", "serve": "gateway", "train": "trainer", "control": "controller"}
    return [ChildSpec(name, [*command, name], settings.run_dir / f"{log_names[name]}.log") for name in names]


@contextmanager
def running(settings: Settings, say: Callable[[str], None]) -> Iterator[Supervisor]:
    """Model prepared, all processes started and able to answer; stopped at the end. Raises `CommandError`."""
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(settings.run_dir / "up.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise CommandError(f"--data-dir={settings.data_dir}: a Plaudit is running on it already; stop it first") from error
    supervisor: Supervisor | None = None
    try:
        _check_ports(settings)
        environment = environment_of(settings)
        prepare_model(environment)
        _check_adapters(settings)
        first_key = _first_key(settings)
        if first_key is not None:
            say(f"API key (shown this once): {first_key}")
        supervisor = Supervisor(child_specs(settings), environment)
        supervisor.start()
        wait_until_ready(settings, supervisor, say)
        yield supervisor
    finally:
        if supervisor is not None:
            supervisor.stop()
        lock.release()


def up(settings: Settings) -> int:
    """Run until SIGINT or SIGTERM; the exit status."""
    configure_logs("supervisor")
    stop_on_signals()
    try:
        with running(settings, _say) as supervisor:
            _say(f"Plaudit answers at http://{settings.host}:{settings.port}   (Ctrl-C stops it; logs: {settings.run_dir})")
            supervisor.watch(threading.Event())
    except KeyboardInterrupt:
        _say("stopped")
    return 0


def wait_until_ready(settings: Settings, supervisor: Supervisor, say: Callable[[str], None]) -> None:
    """Until ``/readyz`` says 200. Raises `CommandError` with the reasons when the start's deadline passes."""
    deadline = time.monotonic() + settings.engine.start_timeout_s
    reasons = ["the gateway has not answered yet"]
    say("starting the engine (half a minute to a minute and a half) …")
    while time.monotonic() < deadline:
        supervisor.check()
        for spec in supervisor.refused():
            raise CommandError(f"{spec.name} does not start: {_last_line(spec.log_path)}")
        reasons = readiness(settings)
        if not reasons:
            return
        time.sleep(0.2)
    raise CommandError(
        f"not ready after {settings.engine.start_timeout_s:.0f} s: {'; '.join(reasons)}; see {settings.run_dir}/*.log"
    )


def readiness(settings: Settings) -> list[str]:
    """Why the gateway cannot answer yet; empty when it can."""
    try:
        with urllib.request.urlopen(f"http://{settings.host}:{settings.port}/readyz", timeout=5) as response:
            response.read()
        return []
    except urllib.error.HTTPError as error:
        return _reasons(error.read()) or [f"/readyz says {error.code}"]
    except (urllib.error.URLError, OSError, ValueError) as error:
        return [f"the gateway does not answer ({error})"]


def _reasons(body: bytes) -> list[str]:
    """Those in an answer of ``/readyz``; none where it is somebody else's answer."""
    try:
        said: Any = json.loads(body)
    except ValueError:
        return []
    return [str(reason) for reason in said.get("reasons", [])] if isinstance(said, dict) else []


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"nothing in {path}"


def _check_ports(settings: Settings) -> None:
    """Raise `CommandError` for a port that somebody else has."""
    wanted = {
        "port": (settings.host, settings.port),
        "metrics_port_trainer": (settings.metrics_host, settings.metrics_port_trainer),
        "metrics_port_controller": (settings.metrics_host, settings.metrics_port_controller),
    }
    if settings.admin_port is not None:
        wanted["admin_port"] = (settings.admin_host, settings.admin_port)
    for name, (host, port) in wanted.items():
        check_port(name, host, port)


def prepare_model(environment: dict[str, str], output: TextIO | None = None) -> None:
    """In a process of its own, so that this one never holds PyTorch. Raises `CommandError`."""
    argv = module("ops.cli", "prepare")
    done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, stdout=output)
    if done.returncode:
        raise CommandError("the model could not be prepared; the reason is above")


def _check_adapters(settings: Settings) -> None:
    """Adapters fit one base only: a data folder that has some is that model's."""
    ref = prepared(settings)
    foreign = [m for m in Registry(settings.adapters_dir).list(settings.project) if m.base_model != ref.digest]
    if foreign:
        raise CommandError(
            f"--model={settings.model}: {len(foreign)} adapters in {settings.adapters_dir} were trained on another model "
            f"(such as {foreign[-1].id}); serve that one, or take another --data-dir"
        )


def _first_key(settings: Settings) -> str | None:
    store = load("serving.keys:KeyStore")(settings)
    store.ensure_project(settings.project)
    key: str | None = store.ensure_first_key()
    return key


def stop_on_signals() -> None:
    """SIGINT and SIGTERM raise KeyboardInterrupt, also where a shell has started us with SIGINT ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def _interrupt(*_: object) -> None:
    """The first signal ends the run; more of them must not end the stopping."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, flush=True)
