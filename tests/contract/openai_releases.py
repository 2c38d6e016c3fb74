"""Releases of the ``openai`` SDK beside the locked one: each in a folder of its own, made once a machine.

``openai-<version>.txt`` pins a release and what it needs in the versions of its time; pydantic is the environment's.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

HERE = Path(__file__).parent
RELEASES = Path(sys.prefix) / "sdk"
INSTALL_TIMEOUT_S = 180.0


class ReleaseNotInstalled(RuntimeError):
    """The package index gave no such release, or none is to be reached."""


def release_folder(version: str) -> Path:
    """The folder of a release, for PYTHONPATH; installed now if it is not there. Raises `ReleaseNotInstalled`."""
    requirements = HERE / f"openai-{version}.txt"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    folder = RELEASES / f"openai-{version}"
    stamp = folder / "installed.sha256"
    RELEASES.mkdir(parents=True, exist_ok=True)
    with FileLock(RELEASES / f"openai-{version}.lock", timeout=2 * INSTALL_TIMEOUT_S):
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            _install(requirements, folder)
            stamp.write_text(wanted)
    return folder


def _install(requirements: Path, folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command = [*pip, "--retries", "1", "--target", str(folder), "-r", str(requirements)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise ReleaseNotInstalled(f"pip took longer than {INSTALL_TIMEOUT_S:.0f} s for {requirements.name}") from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise ReleaseNotInstalled(f"pip could not install {requirements.name}: {reason}")
