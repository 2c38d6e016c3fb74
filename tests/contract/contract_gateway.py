"""``plaudit serve --engine-url`` as a process of its own in front of a running engine: what the contract is held against.

It has its own data folder, and so its own log, keys and adapters. Two adapters are in a duel there: what they are called
must never be seen by an application.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from lora_by_hand import write_adapter
from stack import until
from wiretap import Wiretap

from feedback.events import AdapterLive, Event, RolloutChanged
from feedback.ids import uuid7
from feedback.log import TopicReader
from feedback.sqlite_log import SqliteLog
from ops.models import ModelRef
from ops.registry import GateResult, Registry
from ops.settings import Settings, load_settings
from serving.keys import KeyLimits, KeyStore, Role

PROJECT = "default"


@dataclass(frozen=True)
class ContractGateway:
    url: str
    port: int
    settings: Settings
    adapters: tuple[str, ...]

    def key(self, role: Role = "app", **limits: int) -> str:
        """A new key's secret."""
        keys = KeyStore(self.settings)
        try:
            return keys.create(PROJECT, role, "contract", limits=KeyLimits(**limits))[0]
        finally:
            keys.close()


@dataclass(frozen=True)
class Held:
    """The gateway that is held to the contract, as an application reaches it: ``url`` is the wiretap's."""

    url: str
    gateway: ContractGateway
    wiretap: Wiretap
    engine_socket: str


@contextmanager
def contract_gateway(engine_url: str, starter: ModelRef, model_cache: Path, folder: Path, port: int) -> Iterator[ContractGateway]:
    """The gateway, once its adapters are served."""
    settings = load_settings(data_dir=folder, port=port, engine_url=engine_url, model="starter", model_cache=model_cache)
    adapters = _deploy_a_duel(settings, starter)
    keys = KeyStore(settings)
    keys.ensure_project(PROJECT)
    keys.close()
    command = [
        *(sys.executable, "-m", "ops.cli", "serve", "--engine-url", engine_url, "--model", "starter"),
        *("--data-dir", str(folder), "--port", str(port)),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PLAUDIT_")}
    environment["PLAUDIT_MODEL_CACHE"] = str(model_cache)
    said = (folder / "gateway.log").open("wb")
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
    )
    gateway = ContractGateway(f"http://127.0.0.1:{port}", port, settings, adapters)
    try:
        until(lambda: process.poll() is not None or _serves(gateway), 60, f"the gateway serves its adapters, see {folder}")
        assert process.poll() is None, (folder / "gateway.log").read_text()
        yield gateway
        assert process.poll() is None, "the gateway ended before its time"
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        said.close()


def _deploy_a_duel(settings: Settings, starter: ModelRef) -> tuple[str, ...]:
    """Two adapters that change little, published, and a rollout in which everybody's pair is a duel between them."""
    registry = Registry(settings.adapters_dir)
    gate = GateResult(name="win_rate", passed=True, value=0.6, threshold=0.5)
    ids = []
    for seed in (11, 12):
        staging = write_adapter(settings.data_dir / f"staging-{seed}", Path(starter.path), seed=seed, scale=0.02)
        manifest = registry.publish(
            staging,
            project=PROJECT,
            parent="base",
            base_model=starter.digest,
            training={},
            gates=[gate],
            now=time.time(),
        )
        ids.append(manifest.id)
    change = RolloutChanged(
        rollout_id="ro-contract", state="RAMP", champion=ids[0], challenger=ids[1], coverage=1.0, salt="contract", duels=True
    )
    log = SqliteLog(settings.log_path)
    log.append([Event(id=uuid7(), time=time.time(), project=PROJECT, key=PROJECT, data=change)])
    log.close()
    return tuple(ids)


def _serves(gateway: ContractGateway) -> bool:
    """Whether the gateway is ready, and has said that both adapters are live."""
    try:
        if httpx.get(gateway.url + "/readyz", timeout=5).status_code != 200:
            return False
    except httpx.TransportError:
        return False
    log = SqliteLog(gateway.settings.log_path)
    try:
        told = [record.event.data for record in TopicReader(log, "control").drain()]
    finally:
        log.close()
    return {data.adapter for data in told if isinstance(data, AdapterLive)} >= set(gateway.adapters)
