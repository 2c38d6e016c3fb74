"""Real engines and a real gateway for a bench: a model, a data folder of their own, gone at the end."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from feedback.events import Event, RolloutChanged
from feedback.ids import uuid7
from feedback.log import EventLog
from ops.bench.children import child, free_ports
from ops.bench.targets import Target, plaudit
from ops.environment import environment_of
from ops.models import ModelRef, prepared
from ops.open_log import open_log_of
from ops.process import module
from ops.registry import AdapterManifest, GateResult, Registry
from ops.settings import Settings, load_settings
from ops.up import prepare_model

_ASK_TIMEOUT_S = 10.0
_LOG_TAIL_LINES = 8


@dataclass(frozen=True)
class Stage:
    """Engines that are starting, and the log and the registry of the gateway to be. ``engines``: their addresses."""

    settings: Settings
    engines: tuple[str, ...]
    log: EventLog
    registry: Registry
    model: ModelRef

    @contextmanager
    def gateway(self) -> Iterator[Target]:
        """``plaudit serve``, once it is ready."""
        with plaudit(self.settings, None) as target:
            yield target

    def publish(self, staging: Path, parent: str) -> AdapterManifest:
        """The adapter in folder ``staging``, as if it had passed its gates."""
        return self.registry.publish(
            staging,
            project=self.settings.project,
            parent=parent,
            base_model=self.model.digest,
            training={},
            gates=[GateResult(name="bench", passed=True)],
            now=time.time(),
        )

    def promote(self, adapter: str, promotions: int) -> None:
        """Make it champion, as if the controller had decided so."""
        project = self.settings.project
        change = RolloutChanged(rollout_id=f"ro-{adapter}", state="PROMOTED", champion=adapter, promotions=promotions)
        self.log.append([Event(id=uuid7(), time=time.time(), project=project, key=project, data=change)])

    async def loaded(self) -> list[set[str]]:
        """The adapters that each engine holds, in the order of the engines."""
        return await asyncio.gather(*(_loaded(engine) for engine in self.engines))

    def gateway_log_tail(self) -> str:
        lines = (self.settings.run_dir / "gateway.log").read_text(errors="replace").strip().splitlines()
        return "\n".join(lines[-_LOG_TAIL_LINES:])


@contextmanager
def stage(engines: int, model: str = "starter") -> Iterator[Stage]:
    """So many engines, starting. Raises `CommandError` if the model cannot be prepared."""
    models = load_settings(model=model).models_dir.absolute()
    with tempfile.TemporaryDirectory(prefix="plaudit-bench-") as folder, ExitStack() as running:
        gateway, homes = _settings(Path(folder), model, models, engines)
        gateway.data_dir.mkdir(parents=True)
        prepare_model(environment_of(gateway), sys.stderr)
        for home in homes:
            argv = module("ops.cli", "engine")
            running.enter_context(child(argv, home.run_dir / "keeper.log", environment=environment_of(home)))
        log = running.enter_context(open_log_of(gateway))
        addresses = tuple(f"unix:{home.engine_socket}" for home in homes)
        yield Stage(gateway, addresses, log, Registry(gateway.adapters_dir), prepared(gateway))


def _settings(folder: Path, model: str, models: Path, engines: int) -> tuple[Settings, list[Settings]]:
    """The gateway's, and those of each engine. A single engine shares the gateway's data folder, as in ``plaudit up``."""
    common: dict[str, Any] = {
        "model": model,
        "model_cache": models,
        "log_backend": "sqlite",
        "database_url": "",
        "page": "off",
    }
    common |= {"port": free_ports(1)[0], "engine": {"max_model_len": 512}}
    if engines == 1:
        alone = load_settings(data_dir=folder / "gateway", **common)
        return alone, [alone]
    homes = [load_settings(data_dir=folder / f"engine-{number}", **common) for number in range(engines)]
    addresses = tuple(f"unix:{home.engine_socket}" for home in homes)
    return load_settings(data_dir=folder / "gateway", engine_urls=addresses, **common), homes


async def _loaded(engine: str) -> set[str]:
    """What vLLM lists besides the base model, which has no parent."""
    connector, timeout = aiohttp.UnixConnector(path=engine.removeprefix("unix:")), aiohttp.ClientTimeout(total=_ASK_TIMEOUT_S)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
        session.get("http://engine/v1/models") as response,
    ):
        listing = await response.json()
    return {model["id"] for model in listing["data"] if model.get("parent") is not None}
