"""LiteLLM's proxy in front of the stub, as its own documentation sets it up for production: for a figure beside ours.

It lives in an environment of its own, because its pins and ours do not fit together: ``make bench`` makes it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.bench.children import Cpus, child, wait_for
from ops.errors import CommandError

KEY = "sk-bench"
NOT_INSTALLED = "not installed: make bench installs it"

_START_S = 120.0


def find(given: str | None) -> Path | None:
    """LiteLLM's program: the one given, else in ``.venv/bench`` beside ours, else on the PATH; None where there is none."""
    if given == "none":
        return None
    if given is not None:
        path = shutil.which(given)
        if path is None:
            raise CommandError(f"--litellm={given!r}: there is no such program; give its path, or 'none'")
        return Path(path)
    beside = Path(sys.prefix) / "bench" / "bin" / "litellm"
    found = str(beside) if beside.exists() else shutil.which("litellm")
    return Path(found) if found else None


def version_of(program: Path) -> str:
    """As the program's own environment says; empty if it does not."""
    python = program.parent / "python"
    if not python.exists():
        return ""
    code = "from importlib.metadata import version; print(version('litellm'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


@contextmanager
def proxy(program: Path, upstream: str, port: int, folder: Path, cpus: Cpus) -> Iterator[subprocess.Popen[bytes]]:
    """The running proxy: one worker, a master key, no database, no callbacks."""
    config, log = folder / "litellm.yaml", folder / "litellm.log"
    parameters = {"model": "openai/base", "api_base": f"{upstream}/v1", "api_key": "none"}
    values = {
        "model_list": [{"model_name": "base", "litellm_params": parameters}],
        "general_settings": {"master_key": KEY},
        "litellm_settings": {"telemetry": False, "set_verbose": False, "num_retries": 0},
    }
    config.write_text(json.dumps(values))  # JSON is YAML
    environment = dict(os.environ) | {
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
    }
    argv = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    with child(argv, log, cpus=cpus, environment=environment) as process:
        wait_for(f"http://127.0.0.1:{port}/health/liveliness", process, log, _START_S)
        yield process
