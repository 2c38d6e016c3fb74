"""A place's scenarios, in a process of their own: one JSON line in the folder's ``said.jsonl`` for each.

Run it with ``python -m ops.chaos.place PLACE SIZE FOLDER NAME…``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

from feedback.log import LogError
from ops.chaos.scenario import NotRun, Outcome, Size, Stuck, failed
from ops.chaos.scenarios import PLACES
from ops.cli import load
from ops.errors import UserError
from ops.logs import configure_logs
from ops.up import stop_on_signals

SAID = "said.jsonl"


def main(place: str, size: Size, folder: Path, names: list[str]) -> None:
    """Says for every name either what came of it or why it was not run."""
    opened, scenarios = PLACES[place]
    left = list(names)
    try:
        open_place: Callable[[Path, Size], AbstractContextManager[Any]] = load(opened)
        with open_place(folder, size) as stage:
            for name in names:
                started = time.monotonic()
                outcome = _outcome(load(scenarios[name]), stage, size)
                _say(folder, name=name, seconds=round(time.monotonic() - started, 1), outcome=outcome.as_json())
                left.remove(name)
    except NotRun as reason:
        for name in left:
            _say(folder, name=name, not_run=str(reason))


def _outcome(scenario: Callable[[Any, Size], Outcome], stage: Any, size: Size) -> Outcome:
    """A scenario that gets stuck has failed; the ones after it are run all the same."""
    try:
        return scenario(stage, size)
    except (Stuck, UserError, LogError, OSError, RuntimeError) as error:
        return failed(f"{type(error).__name__}: {error}")


def _say(folder: Path, **fields: Any) -> None:
    with (folder / SAID).open("a") as said:
        said.write(json.dumps(fields) + "\n")


if __name__ == "__main__":
    configure_logs("chaos")
    stop_on_signals()
    try:
        main(sys.argv[1], cast(Size, sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
    except KeyboardInterrupt:
        sys.exit(130)
    except UserError as error:
        sys.exit(str(error))
