"""A real Redis of a test's own: on a Unix socket, nothing kept on disk."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from gateway_parts import until


class RedisServer:
    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="redis-")  # a short path: sockets' are limited
        self._socket = Path(self._folder.name) / "redis.sock"
        self.url = f"unix://{self._socket}"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        flags = ["--port", "0", "--unixsocket", str(self._socket), "--save", "", "--appendonly", "no", "--dir", self._folder.name]
        self._process = subprocess.Popen(["redis-server", *flags], stdout=subprocess.DEVNULL)
        until(self._answers)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def close(self) -> None:
        self.stop()
        self._folder.cleanup()

    def ask(self, *words: str) -> str:
        """A command's answer, as Redis writes it."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(self._socket))
            client.sendall(" ".join(words).encode() + b"\r\n")
            return client.recv(65_536).decode()

    def _answers(self) -> bool:
        try:
            return self.ask("PING").startswith("+PONG")
        except OSError:
            return False


def start_redis(require: Callable[[str, str], None]) -> RedisServer:
    if shutil.which("redis-server") is None:
        require("redis", "redis-server is not installed")
    return RedisServer()
