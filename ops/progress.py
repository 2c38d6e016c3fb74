"""A progress bar on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[str, float], None]
"""Called with what is being done and its share done, 0 to 1."""


@contextmanager
def progress_bar() -> Iterator[Report]:
    """Yields a `Report`."""
    if not sys.stderr.isatty():
        yield _PlainProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, int] = {}

        def report(what: str, share: float) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=1.0)
            progress.update(tasks[what], completed=share)  # type: ignore[arg-type]

        yield report


class _PlainProgress:
    """Prints a line at every new tenth."""

    def __init__(self) -> None:
        self._printed: tuple[str, int] | None = None

    def __call__(self, what: str, share: float) -> None:
        step = (what, int(share * 10))
        if step != self._printed:
            self._printed = step
            print(f"{what}: {share:.0%}", file=sys.stderr, flush=True)
