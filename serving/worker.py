"""One process of the gateway: it answers on sockets that its parent has opened (`serving.workers`).

SIGTERM ends it within ``limits.drain_s``; SIGUSR1, sent when another worker has taken its place, once its last answer
is out. In either case it takes no new connections, tells clients to close theirs, and finishes what is running.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import socket
import sys
from functools import partial

import structlog
import uvicorn

from ops.database import DatabaseUnavailable
from ops.errors import UserError
from ops.logs import configure_logs
from ops.settings import Settings, load_settings
from serving.app import create_app
from serving.gateway import Gateway
from serving.keys import KeyStore
from serving.protocol import GuardedProtocol

KEEPALIVE_S = 75
"""Longer than clients keep an idle connection (the openai SDK: 5 s), so that it is they who close it."""

LINGER_S = {False: 1.0, True: 6.0}
"""How long idle connections are kept for one more request, which is answered with ``connection: close``: when told to
stop, and when replaced."""

_log = structlog.get_logger(__name__)

_POLL_S = 0.05
_GC_THRESHOLDS = (20_000, 20, 50)
_SWITCH_S = 0.0005
"""How long the log's threads may keep the interpreter from the answers; Python's own is ten times as long."""


class Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, app: Gateway, settings: Settings, ready_fd: int | None) -> None:
        super().__init__(config)
        self._app, self._settings, self._ready_fd = app, settings, ready_fd
        self._replaced = False
        signal.signal(signal.SIGUSR1, self._replace)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What has been made so far stays: the collector need not look at it again, nor look at every few hundred objects.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        sys.setswitchinterval(_SWITCH_S)
        if self._ready_fd is not None:
            os.write(self._ready_fd, b"1")
            os.close(self._ready_fd)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.draining = True
        for server in self.servers:
            server.close()
        for listening in sockets or ():
            listening.close()
        loop = asyncio.get_running_loop()
        until = loop.time() + LINGER_S[self._replaced]
        while self.server_state.connections and loop.time() < until:
            await asyncio.sleep(_POLL_S)
        limits = self._settings.limits
        self.config.timeout_graceful_shutdown = limits.request_timeout_s if self._replaced else limits.drain_s
        await super().shutdown(sockets)

    def _replace(self, *_: object) -> None:
        self._replaced = self.should_exit = True


def main(slot: int, ready_fd: int, ready_within_s: float, *fds: int) -> None:
    """Serve on the listening sockets ``fds`` until told to stop. Does not listen before all is ready, or so many seconds."""
    configure_logs("gateway")
    _take_all_descriptors()
    settings = load_settings()
    if slot == 0:
        _print_first_key(settings)
    app = create_app(settings, ready_within_s=ready_within_s, slot=slot)
    config = uvicorn.Config(
        app,
        http=partial(GuardedProtocol, limits=settings.limits),  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_keep_alive=KEEPALIVE_S,
    )
    server = Server(config, app, settings, ready_fd)
    try:
        server.run([socket.socket(fileno=fd) for fd in fds])
    except KeyboardInterrupt:  # uvicorn raises it again once everything is closed
        return
    if not server.started:
        sys.exit(1)


def _take_all_descriptors() -> None:
    """Every chat needs two: raise the soft limit, often 1024, as far as the system lets us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _print_first_key(settings: Settings) -> None:
    """The first start ever prints an API key, once."""
    keys = KeyStore(settings)
    try:
        keys.ensure_project(settings.project)
        secret = keys.ensure_first_key()
    except DatabaseUnavailable as error:
        _log.warning("no_first_key", error=str(error))
        return
    finally:
        keys.close()
    if secret is not None:
        print(f"API key (shown this once): {secret}", flush=True)


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), *map(int, sys.argv[4:]))
    except UserError as error:
        print(f"plaudit: {error}", file=sys.stderr)
        sys.exit(2)
