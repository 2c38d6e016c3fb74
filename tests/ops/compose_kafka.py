"""The compose file's Kafka, from a distribution's jars: the settings are the file's, as the image makes them of variables."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from brokers import wait_until
from compose_file import SERVICES

_TOPICS = """#!/bin/sh
exec {python} {program} "$@"
"""


class ComposedKafka:
    """``here`` puts this machine's places into a value of the file."""

    def __init__(self, home: Path, folder: Path, here: Callable[[str], str]) -> None:
        self._java = ["java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{home}/libs/*"]
        self._folder = folder
        host, _, port = here("kafka:9092").partition(":")
        self._address = (host, int(port))
        self.log = folder / "kafka.out"
        settings = SERVICES["kafka"]["environment"]
        lines = [f"{name.removeprefix('KAFKA_').lower().replace('_', '.')}={here(value)}" for name, value in settings.items()]
        self._properties = folder / "server.properties"
        self._properties.write_text("\n".join(lines))
        identity = self._tool("random-uuid").strip()
        self._tool("format", "-t", identity, "-c", str(self._properties))
        with self.log.open("wb") as log:
            command = [*self._java, "kafka.Kafka", str(self._properties)]
            self._process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)

    def wait_until_healthy(self) -> None:
        """Not by the file's own command, which is a script of the image's whose classes are in none of the jars here."""
        wait_until(self._answers, f"Kafka, see {self.log}", 60)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def _tool(self, *arguments: str) -> str:
        command = [*self._java, "kafka.tools.StorageTool", *arguments]
        return subprocess.run(command, cwd=self._folder, capture_output=True, text=True, timeout=60, check=True).stdout

    def _answers(self) -> bool:
        assert self._process.poll() is None, f"Kafka ended: {self.log.read_text()}"
        try:
            socket.create_connection(self._address, 1).close()
        except OSError:
            return False
        return True


def topics_program(folder: Path) -> Path:
    """A folder with a ``kafka-topics.sh``, for Kafka's own, whose classes are in none of the jars here either."""
    program = folder / "bin" / "kafka-topics.sh"
    program.parent.mkdir()
    program.write_text(_TOPICS.format(python=sys.executable, program=Path(__file__).with_name("kafka_topics.py")))
    program.chmod(0o755)
    return program.parent
