"""``plaudit bench engine``: tokens a second of the real engine, through the gateway and directly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.progress import Report
from ops.settings import Settings


@dataclass(frozen=True)
class Options:
    rounds: int = 5
    requests: int = 128
    concurrency: int = 32
    tokens: int = 64
    model: str = "starter"


def run(options: Options, settings: Settings, folder: Path, report: Report) -> dict[str, Any]:
    raise NotImplementedError
