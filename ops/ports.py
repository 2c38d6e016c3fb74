"""Ports that are to be listened on."""

from __future__ import annotations

import socket

from ops.errors import CommandError


def check_port(setting: str, host: str, port: int) -> None:
    """Raise `CommandError` that names the setting if nobody here can listen on the port; 0 is any free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            fix = f"set PLAUDIT_{setting.upper()} to another"
            raise CommandError(f"{setting}={port}: cannot listen on {host} ({error.strerror}); {fix}") from error
