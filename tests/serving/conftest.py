"""Gateways, labeling and swaps, each over a world of its own.

One gateway over one small model for all tests of a file; tests that change what is deployed start their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import label_world
import pytest
from chat_upstream import ChatUpstream
from gateway_parts import Gateway, gateway
from swap_world import World


@pytest.fixture(scope="session")
def _upstream() -> Iterator[ChatUpstream]:
    with ChatUpstream() as server:
        yield server


@pytest.fixture
def upstream(_upstream: ChatUpstream) -> Iterator[ChatUpstream]:
    """The model behind `served`, with nothing in its memory."""
    _upstream.reset()
    yield _upstream
    _upstream.go_on.set()


@pytest.fixture(scope="module")
def served(_upstream: ChatUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(Path(tmp_path_factory.mktemp("data")), _upstream) as running:
        yield running


@pytest.fixture
def w(tmp_path: Path) -> Iterator[label_world.World]:
    with label_world.world(tmp_path) as made:
        yield made


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.log.close()
