"""``plaudit serve``: gives its process to the gateway's parent, and tells that one the settings of now whenever it asks.

The parent (`serving.workers`) lives as long as the gateway does and is made of the standard library alone, so that it
costs a tenth of a worker's memory; what settings need is loaded in a process that ends again.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from ops.environment import environment_of
from ops.errors import UserError
from ops.process import module
from ops.settings import Settings, load_settings
from serving.plan import Plan


def run(flags: Mapping[str, Any]) -> NoReturn:
    """Become the gateway's parent. ``flags``: settings from the command line; they hold at every SIGHUP too."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, module("serving.workers", json.dumps(dict(flags), default=str)))


def plan_of(settings: Settings) -> Plan:
    """What the parent has to know. Makes the data folder."""
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    listen = [("port", settings.host, settings.port)]
    if settings.admin_port is not None:
        listen.append(("admin_port", settings.admin_host, settings.admin_port))
    return Plan(
        environment=environment_of(settings),
        listen=listen,
        workers=settings.workers,
        run_dir=str(settings.run_dir.absolute()),
        drain_s=settings.limits.drain_s,
        request_timeout_s=settings.limits.request_timeout_s,
    )


if __name__ == "__main__":
    try:
        print(plan_of(load_settings(**json.loads(sys.argv[1]))).to_json())
    except UserError as error:
        print(f"plaudit: {error}", file=sys.stderr)
        sys.exit(2)
