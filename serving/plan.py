"""What the gateway's parent has to know of the settings, and how it asks for them. The standard library alone."""

from __future__ import annotations

import json
import subprocess
from typing import NamedTuple

from ops.errors import SettingsError
from ops.process import as_child, module

_READ_S = 60.0


class Plan(NamedTuple):
    environment: dict[str, str]
    """Of the workers: every setting is in it."""
    listen: list[tuple[str, str, int]]
    """(setting, host, port) of each socket."""
    workers: int
    run_dir: str
    drain_s: float
    request_timeout_s: float

    def to_json(self) -> str:
        return json.dumps(self._asdict())


def read_plan(flags: str) -> Plan:
    """The plan by the settings of now; ``flags``: those of the command line, as JSON.

    Raises `SettingsError`, one line a setting that is wrong.
    """
    argv = module("serving.serve", flags)
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_READ_S, preexec_fn=as_child
        )
    except subprocess.TimeoutExpired as error:
        raise SettingsError(f"the settings could not be read within {_READ_S:.0f} s; look at the disk") from error
    if done.returncode:
        raise SettingsError(done.stderr.strip().removeprefix("plaudit: "))
    return Plan(**json.loads(done.stdout))
