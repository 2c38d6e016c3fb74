"""Runs the scenarios, place beside place, and gathers what they say."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ops.bench.children import child
from ops.bench.table import machine
from ops.chaos.place import SAID
from ops.chaos.scenario import Size, failed, pause
from ops.chaos.scenarios import NAMES, PLACES
from ops.errors import CommandError
from ops.process import module
from ops.progress import Report

_POLL_S = 0.1


def run(size: Size, names: Sequence[str], report: Report) -> dict[str, Any]:
    """The scenarios of these names (none: all): ``{"size", "machine", "passed", "scenarios": […], "not_run": […]}``."""
    if unknown := sorted(set(names) - set(NAMES)):
        raise CommandError(f"scenario {unknown[0]!r}: there is none; there are: {', '.join(NAMES)}")
    told = machine()
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="plaudit-chaos-") as folder, ExitStack() as running:
        followed = [
            running.enter_context(_Followed(place, chosen, size, Path(folder)))
            for place, all_names in PLACES.items()
            if (chosen := [name for name in all_names.scenarios if not names or name in names])
        ]
        while any(not each.ended for each in followed):
            pause(_POLL_S)
            _progress(followed, report)
        lines = [line for each in followed for line in each.results()]
    done = [line for line in lines if "outcome" in line]
    return {
        "size": size,
        "machine": told,
        "passed": bool(done) and all(line["outcome"]["passed"] for line in done),
        "scenarios": [{"name": line["name"], "seconds": line["seconds"]} | line["outcome"] for line in done],
        "not_run": [{"name": line["name"], "reason": line["not_run"]} for line in lines if "not_run" in line],
    }


class _Followed:
    """A running place."""

    def __init__(self, place: str, names: list[str], size: Size, folder: Path) -> None:
        self.names = names
        own = folder / place
        own.mkdir()
        self._said, self._log = own / SAID, own / "place.log"
        self._argv = module("ops.chaos.place", place, size, str(own), *names)
        self._running = ExitStack()

    def __enter__(self) -> _Followed:
        self._process = self._running.enter_context(child(self._argv, self._log))
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def lines(self) -> dict[str, dict[str, Any]]:
        """What it has said so far, by scenario."""
        text = self._said.read_text() if self._said.exists() else ""
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return {line["name"]: line for line in lines}

    def results(self) -> list[dict[str, Any]]:
        """One line for every name; a place that broke has failed what it had not ended."""
        lines = self.lines()
        if any(name not in lines for name in self.names):
            end = self._log.read_text(errors="replace").strip() or "no output"
            why = failed(f"the scenarios' process ended with {self._process.returncode}: {end[-1000:]}")
            lines = {name: {"name": name, "seconds": 0.0, "outcome": why.as_json()} for name in self.names} | lines
        return [lines[name] for name in self.names]


def _progress(followed: Sequence[_Followed], report: Report) -> None:
    total = sum(len(each.names) for each in followed)
    ended = sum(len(each.lines()) for each in followed)
    report("scenarios", ended / total)
