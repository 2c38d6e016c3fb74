"""A TCP proxy on this machine that can be a bad network."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Literal

Mode = Literal["pass", "reset", "mute", "slow"]
"""``reset``: every connection, old or new, ends with an RST as soon as something comes back on it. ``mute``: half-open;
what is sent is taken and goes nowhere, and it stays so for these connections. ``slow``: everything comes 500 ms late."""

_LATE_S = 0.5
_TICK_S = 0.1
_CHUNK = 65_536
_HARD = struct.pack("ii", 1, 0)
"""SO_LINGER with no time to linger: close() sends an RST."""


class Proxy:
    """Stands on ``port`` in front of the port ``upstream`` of this machine; ``mode`` may be changed at any time."""

    def __init__(self, upstream: int = 0) -> None:
        self.mode: Mode = "pass"
        self.upstream = upstream
        self._open = True
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._listening.settimeout(_TICK_S)
        self.port: int = self._listening.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)

    def __enter__(self) -> Proxy:
        self._accepting.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open = False
        self._accepting.join()
        for thread in self._threads:
            thread.join()
        self._listening.close()

    def _accept(self) -> None:
        while self._open:
            try:
                client, _ = self._listening.accept()
            except TimeoutError:
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.upstream), 5)
            except OSError:
                client.close()
                continue
            pair = _Pair(self, client, server)
            for side in ((client, server), (server, client)):
                thread = threading.Thread(target=pair.carry, args=side)
                self._threads.append(thread)
                thread.start()
            self._threads = [thread for thread in self._threads if thread.is_alive()]

    @property
    def is_open(self) -> bool:
        return self._open


class _Pair:
    """Two connections, one carried on by the other."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._muted = self._ended = False
        for side in (client, server):
            side.settimeout(_TICK_S)
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while self._proxy.is_open and not self._ended:
                try:
                    data = source.recv(_CHUNK)
                except TimeoutError:
                    continue
                if not data:
                    break
                self._pass(data, source, target)
        self._ended = True
        source.close()
        target.close()

    def _pass(self, data: bytes, source: socket.socket, target: socket.socket) -> None:
        mode = self._proxy.mode
        self._muted = self._muted or mode == "mute"
        if self._muted:
            return
        if mode == "reset" and source is self._server:  # what was asked has been done by now, and nobody is told
            for side in (self._client, self._server):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _HARD)
            raise ConnectionResetError
        if mode == "slow":
            time.sleep(_LATE_S)
        target.settimeout(5)
        target.sendall(data)
        target.settimeout(_TICK_S)
