"""One gateway over the shared real engine for the whole contract, one over a scripted model, one without any."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_upstream import ChatUpstream
from contract_gateway import Held, contract_gateway
from gateway_parts import Gateway, gateway, serving_app
from stack import Stack
from wiretap import Wiretap

from ops.models import ModelRef
from ops.settings import load_settings
from serving.app import create_app
from serving.engine import VllmEngine
from serving.keys import KeyStore


@pytest.fixture(scope="session")
def held(stack: Stack, starter: ModelRef, model_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    (engine_url,) = stack.settings.engines
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    folder = tmp_path_factory.mktemp("contract")
    with contract_gateway(engine_url, starter, model_cache, folder, port) as running, Wiretap(port) as wiretap:
        yield Held(wiretap.url, running, wiretap, engine_url.removeprefix("unix:"))
    asyncio.run(_unload(engine_url, running.adapters))


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway over a model that fails as it is told to, and that waits for it a second only."""
    limits = {"request_timeout_s": 1, "engine_wait_s": 0}
    with ChatUpstream() as upstream, gateway(tmp_path_factory.mktemp("scripted"), upstream, limits=limits) as running:
        yield running
        upstream.go_on.set()


@pytest.fixture(scope="session")
def without_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Address and key of a gateway whose engine is not there."""
    folder: Path = tmp_path_factory.mktemp("without-engine")
    settings = load_settings(data_dir=folder, engine_url="http://127.0.0.1:9", limits={"engine_wait_s": 0})
    with serving_app(create_app(settings)) as url:
        keys = KeyStore(settings)
        key = keys.create("default", "app", "contract")[0]
        keys.close()
        yield {"url": url, "key": key}


async def _unload(engine_url: str, adapters: tuple[str, ...]) -> None:
    """The engine goes on without this gateway: leave it as it was."""
    engine = VllmEngine(engine_url)
    try:
        for adapter in adapters:
            await engine.unload_adapter(adapter)
    finally:
        await engine.close()
