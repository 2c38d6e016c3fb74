"""The unchanged stock ``openai`` SDK, sync and async: the locked release, the last 2.x and the first 1.x.

The checks are in ``sdk/``; they run in a process of their own, with a release's folder first on the path.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import httpx
import pytest
from contract_gateway import Held
from gateway_parts import Gateway
from openai_releases import ReleaseNotInstalled, release_folder

from serving.null_adapter import NULL

CHECKS = Path(__file__).parent / "sdk"
DEADLINE_S = 180.0
ASK = {"model": "default", "messages": [{"role": "user", "content": "What is 2 plus 3?"}], "max_tokens": 4}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("release", ["locked", "2.54.0", "1.0.0"])
def test_the_sdk_gets_all_it_asks_for_and_its_own_exceptions(
    held: Held,
    scripted: Gateway,
    without_engine: dict[str, str],
    require: Callable[[str, str], None],
    release: str,
):
    path = _path_of(release, require)
    given = {
        "release": metadata.version("openai") if release == "locked" else release,
        "url": held.url,
        "direct_url": held.gateway.url,
        "key": held.gateway.key(),
        "annotator_key": held.gateway.key("annotator"),
        "limited_keys": {kind: held.gateway.key(requests_per_min=1) for kind in ("sync", "async")},
        "engine_socket": held.engine_socket,
        "adapters": held.gateway.adapters,
        "scripted": {"url": scripted.url, "key": scripted.key},
        "without_engine": without_engine,
    }
    environment = {
        **os.environ,
        "PLAUDIT_CONTRACT": json.dumps(given),
        "PYTHONPATH": path,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(CHECKS / "pytest.ini"), "--confcutdir", str(CHECKS), str(CHECKS)]
    done = subprocess.run(
        command, env=environment, cwd=CHECKS, capture_output=True, text=True, timeout=DEADLINE_S, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _path_of(release: str, require: Callable[[str, str], None]) -> str:
    if release == "locked":
        return ""
    try:
        return str(release_folder(release))
    except ReleaseNotInstalled as error:
        require("sdk", str(error))
        raise


def test_nothing_that_was_answered_names_an_adapter_or_a_place(held: Held):
    """All that the SDKs were told above, and one of every kind here; both adapters were at work."""
    headers = {"authorization": f"Bearer {held.gateway.key()}"}
    with httpx.Client(base_url=held.url, headers=headers, timeout=30) as client:
        pair = client.post("/v1/chat/completions", json=ASK | {"n": 2, "compare": True}).json()
        client.post("/v1/chat/completions", json=ASK | {"stream": True})
        client.post("/v1/feedback", json={"type": "preference", "value": "a", "receipt": pair["plaudit"]["receipt"]})
        for wrong in ({"model": "gpt-4o"}, {"n": 0}, {"messages": [{"role": "user", "content": "word " * 2000}]}):
            assert client.post("/v1/chat/completions", json=ASK | wrong).status_code in (400, 404)
        for path in ("/v1/models", "/v1/models/default", "/v1/nothing", "/healthz", "/readyz", "/openapi.json"):
            client.get(path)
    heard = held.wiretap.heard
    assert heard.count(b"x-request-id: req_") >= 12
    assert pair["plaudit"]["comparison_id"].encode() in heard
    ids = held.gateway.adapters
    places = (held.engine_socket, str(held.gateway.settings.data_dir))
    for secret in (*ids, *(id.rpartition("-")[2] for id in ids), NULL, *places):
        assert secret.encode() not in heard
