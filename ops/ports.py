"""Ports that are to be listened on."""

from __future__ import annotations

import socket

from ops.errors import CommandError


def bind(setting: str, host: str, port: int) -> socket.socket:
    """A socket that is bound there and does not listen yet; port 0 is any free one.

    Raises `CommandError` that names the setting if nobody here can listen there.
    """
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        fix = f"set PLAUDIT_{setting.upper()} to another"
        raise CommandError(f"{setting}={port}: cannot listen on {host} ({error.strerror}); {fix}") from error
    return bound


def check_port(setting: str, host: str, port: int) -> None:
    """Raise `CommandError` that names the setting if nobody here can listen on the port."""
    bind(setting, host, port).close()
