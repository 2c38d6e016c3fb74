"""docker-compose.yml as Compose reads it, and its services run without containers, at addresses of this machine.

What a service runs, its environment, what it waits for and what says that it is well are the file's own; replaced are
only the places: folders, host names and ports of containers by those of a test.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from brokers import wait_until

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("plaudit:")}
SECRETS = {"PLAUDIT_SECRET": "s" * 64, "PLAUDIT_DATABASE_PASSWORD": "d" * 64}

_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def substituted(value: str, environment: Mapping[str, str]) -> str:
    """A value as Compose reads it: ``${NAME:-default}`` and ``${NAME:?message}``."""

    def replace(match: re.Match[str]) -> str:
        name, form, text = match.groups()
        if name in environment:
            return environment[name]
        assert form == "-", f"{name}: {text or 'no default'}"
        return text

    return _VARIABLE.sub(replace, value).replace("$$", "$")


def passed_on(environment: Mapping[str, str | None], outside: Mapping[str, str]) -> dict[str, str]:
    """An environment as Compose reads it: a variable without a value is the one around it, and left out where that is not."""
    return {
        name: outside[name] if value is None else value
        for name, value in environment.items()
        if value is not None or name in outside
    }


@dataclass
class Services:
    """Services run as processes: ``places`` say what stands for a container's place, ``more`` is added to environments."""

    folder: Path
    variables: Mapping[str, str]
    places: Mapping[str, str]
    more: Mapping[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ready: set[str] = field(default_factory=set)
    """Those that are healthy, or have come to their end."""

    def here(self, value: str) -> str:
        """A value of the file, with this machine's places."""
        value = substituted(value, self.variables)
        for place, local in self.places.items():
            value = value.replace(place, local)
        return value

    def environment(self, name: str) -> dict[str, str]:
        """What the service gets: nothing of Plaudit's from around the test."""
        outside = {variable: value for variable, value in os.environ.items() if not variable.startswith("PLAUDIT_")}
        written = passed_on(SERVICES[name].get("environment", {}), self.variables)
        given = {variable: self.here(value) for variable, value in written.items()}
        return outside | given | self.more

    def run(self, name: str, *command: str) -> str:
        """What a command prints in a service's environment. It must succeed."""
        argv, environment = self._argv(command), self.environment(name)
        done = subprocess.run(argv, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
        return done.stdout

    def run_to_the_end(self, name: str) -> None:
        """A service that others wait for the end of."""
        self._check_needs(name)
        self.run(name, *SERVICES[name].get("entrypoint", ()), *SERVICES[name]["command"])
        self.ready.add(name)

    def start(self, name: str) -> None:
        self._check_needs(name)
        with self.log(name).open("wb") as log:
            argv = self._argv(SERVICES[name]["command"])
            self.running[name] = subprocess.Popen(argv, env=self.environment(name), cwd=self.folder, stdout=log, stderr=log)

    def wait_until_healthy(self, name: str, seconds: float = 150) -> None:
        def is_healthy() -> bool:
            process = self.running.get(name)
            assert process is None or process.poll() is None, f"{name} has ended: {self.log(name).read_text()}"
            return self.is_healthy(name)

        wait_until(is_healthy, f"{name} is healthy, see {self.log(name)}", seconds)
        self.ready.add(name)

    def is_healthy(self, name: str) -> bool:
        """What the file's own check says."""
        how, *command = SERVICES[name]["healthcheck"]["test"]
        assert how == "CMD"
        argv = self._argv(command)
        return not subprocess.run(argv, cwd=self.folder, capture_output=True, timeout=60).returncode

    def stop(self) -> dict[str, int]:
        """SIGTERM to all at once; the exit status of each within its time."""
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        seconds = {name: int(SERVICES[name]["stop_grace_period"].removesuffix("s")) for name in self.running}
        statuses = {name: process.wait(seconds[name]) for name, process in self.running.items()}
        self.running.clear()
        return statuses

    def kill(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait(10)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.out"

    def _check_needs(self, name: str) -> None:
        """Compose would start it now."""
        assert set(SERVICES[name].get("depends_on", ())) <= self.ready

    def _argv(self, command: Sequence[str]) -> list[str]:
        """The programs of the image are those of this environment."""
        program, *arguments = map(self.here, command)
        ours = {"plaudit": str(Path(sys.executable).with_name("plaudit")), "python": sys.executable}
        return [ours.get(program, program), *arguments]
