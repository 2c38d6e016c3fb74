"""What a bench sends its load to, as running processes: the stub itself, and gateways in front of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ops.bench import litellm
from ops.bench.children import Cpus, child, free_ports, wait_for
from ops.cli import load as attribute
from ops.environment import environment_of
from ops.process import module
from ops.settings import Settings, load_settings

_START_S = 60.0


@dataclass(frozen=True)
class Target:
    name: str
    url: str
    model: str
    """What its requests name."""
    key: str = ""
    pid: int | None = None
    """Of a gateway."""


@dataclass(frozen=True)
class Cores:
    """Which CPUs the load (stub and generator) has, and which the gateway; None: any."""

    load: Cpus = None
    gateway: Cpus = None


def cores(pin: bool, available: frozenset[int]) -> Cores:
    """One half of the CPUs each, where there are two and ``pin`` says so."""
    if not pin or len(available) < 2:
        return Cores()
    ordered = sorted(available)
    half = len(ordered) // 2
    return Cores(frozenset(ordered[:half]), frozenset(ordered[half:]))


def available_cpus() -> frozenset[int]:
    """Those this process may use; empty where the system does not say."""
    return frozenset(os.sched_getaffinity(0)) if sys.platform == "linux" else frozenset()


@contextmanager
def stub(folder: Path, cpus: Cpus, *flags: str) -> Iterator[Target]:
    (port,) = free_ports(1)
    log = folder / "stub.log"
    with child(module("ops.bench.stub", "--port", str(port), *flags), log, cpus=cpus) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/health", process, log, _START_S)
        yield Target("direct", url, "base")


@contextmanager
def plaudit(settings: Settings, cpus: Cpus) -> Iterator[Target]:
    """``plaudit serve`` in the settings' data folder, with a key of its own."""
    log = settings.run_dir / "gateway.log"
    store = attribute("serving.keys:KeyStore")(settings)
    store.ensure_project(settings.project)
    key: str = store.create(project=settings.project, role="app", name="bench")[0]
    store.close()
    argv = module("ops.cli", "serve")
    with child(argv, log, cpus=cpus, environment=environment_of(settings)) as process:
        url = f"http://{settings.host}:{settings.port}"
        wait_for(f"{url}/readyz", process, log, max(_START_S, settings.engine.start_timeout_s))
        yield Target("plaudit", url, settings.project, key, process.pid)


def gateway_settings(folder: Path, engine_url: str, workers: int) -> Settings:
    """A gateway alone in a folder of its own, with the embedded log, in front of ``engine_url``."""
    (port,) = free_ports(1)
    return load_settings(
        data_dir=folder / "data",
        host="127.0.0.1",
        port=port,
        engine_urls=(engine_url,),
        workers=workers,
        log_backend="sqlite",
        database_url="",
        page="off",
    )


@contextmanager
def beside(program: Path, upstream: str, folder: Path, cpus: Cpus) -> Iterator[Target]:
    """LiteLLM's proxy."""
    (port,) = free_ports(1)
    with litellm.proxy(program, upstream, port, folder, cpus) as process:
        yield Target("litellm", f"http://127.0.0.1:{port}", "base", litellm.KEY, process.pid)
