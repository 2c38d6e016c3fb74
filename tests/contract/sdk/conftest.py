"""The same checks for the synchronous and the asynchronous client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from sdk_client import AsyncSdk, Sdk, setup

KINDS = {kind.kind: kind for kind in (Sdk, AsyncSdk)}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def open_sdk(kind: str) -> Iterator[Callable[..., Sdk]]:
    """Makes clients of one kind: ``open_sdk(url, key, **options)``."""
    with ExitStack() as opened:

        def make(url: str, key: str, **options: Any) -> Sdk:
            client = KINDS[kind](url, key, **options)
            opened.callback(client.close)
            return client

        yield make


@pytest.fixture
def sdk(open_sdk: Callable[..., Sdk]) -> Sdk:
    """A client of the gateway over the real engine, with an application's key."""
    given = setup()
    return open_sdk(given["url"], given["key"])
