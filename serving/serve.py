"""``plaudit serve``: the gateway until SIGTERM or SIGINT; running answers are finished first. SIGHUP replaces its workers."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable

from ops.logs import configure_logs
from ops.ports import bind
from ops.settings import Settings
from serving.workers import Workers

_BACKLOG = 2048


def run(read_settings: Callable[[], Settings]) -> None:
    """Serve until told to stop. Raises `CommandError` for a port that is taken.

    ``read_settings`` is called now and at every SIGHUP; where to listen is settled once.
    """
    configure_logs("gateway")
    settings = read_settings()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    sockets = [_listen("port", settings.host, settings.port)]
    if settings.admin_port is not None:
        sockets.append(_listen("admin_port", settings.admin_host, settings.admin_port))
    print(f"The gateway listens at http://{settings.host}:{settings.port}; /readyz says whether it can answer.", file=sys.stderr)
    status = Workers(settings, sockets, read_settings).run()
    if status:
        sys.exit(status)


def _listen(setting: str, host: str, port: int) -> socket.socket:
    listening = bind(setting, host, port)
    listening.listen(_BACKLOG)
    listening.setblocking(False)
    return listening
