"""``plaudit serve``: the gateway until SIGTERM or SIGINT; running answers are finished first."""

from __future__ import annotations

import sys
from contextlib import suppress

import uvicorn

from ops.logs import configure_logs
from ops.ports import check_port
from ops.settings import Settings
from serving.app import create_app
from serving.keys import KeyStore

DRAIN_S = 4
"""How long running answers may take after SIGTERM; the supervisor waits a little longer before it kills."""

_KEEPALIVE_S = 75
"""Longer than clients keep an idle connection (the openai SDK: 5 s), so that it is they who close it."""

_BACKLOG = 2048


def run(settings: Settings) -> None:
    """Serve until told to stop. The first start ever prints an API key, once."""
    configure_logs("gateway")
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    check_port("port", settings.host, settings.port)
    _print_first_key(settings)
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEPALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):  # uvicorn raises it again once everything is closed
        server.run()
    if not server.started:
        sys.exit(1)


def _print_first_key(settings: Settings) -> None:
    keys = KeyStore(settings.database_path)
    keys.ensure_project(settings.project)
    secret = keys.ensure_first_key()
    keys.close()
    if secret is not None:
        print(f"API key (shown this once): {secret}", flush=True)
