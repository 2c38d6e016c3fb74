"""``plaudit replay``: the preference dataset, rebuilt from the log's first record."""

from __future__ import annotations

import json as jsonlib
import math
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from feedback.events import Topic
from feedback.replay import ANYWHERE, Dataset, Point
from feedback.replay import replay as rebuild
from ops.cli.common import CommandError, DataDir, Json, Project, print_json, settings_from
from ops.open_log import existing_log_of

_FORMS = "send an ISO 8601 time (2026-01-31T12:00:00Z), Unix seconds, or @FILE with what 'plaudit replay --json' printed"


def replay(
    start: Annotated[
        str | None, typer.Option("--from", metavar="T", help="Votes from here on. [default: all]", show_default=False)
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="T", help="What was said before. [default: all]", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the votes here, a line of JSON each.", show_default=False)
    ] = None,
    data_dir: DataDir = None,
    project: Project = None,
    json: Json = False,
) -> None:
    """Rebuild the preference dataset from the log's first record: the same records give the same bytes.

    T is a time (ISO 8601, UTC if it names no zone; or Unix seconds) or @FILE, the output of an earlier --json: then its
    offsets are meant, which is exact also where gateways' clocks differ. What stands at --to is what counts, of votes given
    at --from or later. A line holds no text of people's; 'plaudit export' joins the texts to it.
    """
    first, last = _point("--from", start), _point("--to", end)
    if first.time is not None and last.time is not None and first.time > last.time:
        raise CommandError(f"--from={start!r} is after --to={end!r}: give the earlier one first")
    settings = settings_from(data_dir, project=project)
    with existing_log_of(settings) as log:
        dataset = rebuild(log, settings.project, first, last)
    if out is not None:
        _write(out, dataset)
    if dataset.missing:
        print(
            f"plaudit: the log's first {dataset.missing} records are gone by retention: the dataset is not whole", file=sys.stderr
        )
    report = _report(settings.project, dataset, start, end, out)
    if json:
        print_json(report)
        return
    counts = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in report["counts"].items())
    print(f"{report['rows']} votes, sha256 {report['sha256']}\n{counts}" + (f"\nwritten to {out}" if out else ""))


def _report(project: str, dataset: Dataset, start: str | None, end: str | None, out: Path | None) -> dict[str, Any]:
    return {
        "project": project,
        "rows": len(dataset.lines),
        "sha256": dataset.sha256,
        "from": start,
        "to": end,
        "counts": dataset.counts._asdict(),
        "missing": dataset.missing,
        "offsets": dataset.offsets,
        "out": None if out is None else str(out),
    }


def _write(path: Path, dataset: Dataset) -> None:
    """All or nothing: a reader never sees half a file."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(b"".join(dataset.lines))
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        raise CommandError(f"--out={str(path)!r} cannot be written: {error.strerror or error}") from error


def _point(option: str, text: str | None) -> Point:
    if text is None:
        return ANYWHERE
    if text.startswith("@"):
        return Point(offsets=_offsets(option, Path(text[1:])))
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise CommandError(f"{option}={text!r} is no time: {_FORMS}") from error
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(seconds):
        raise CommandError(f"{option}={text!r} is no time: {_FORMS}")
    return Point(time=seconds)


def _offsets(option: str, path: Path) -> dict[Topic, dict[int, int]]:
    try:
        found = jsonlib.loads(path.read_text(encoding="utf-8"))["offsets"]
        return {topic: {int(p): int(o) for p, o in found[topic].items()} for topic in get_args(Topic) if topic in found}
    except OSError as error:
        raise CommandError(f"{option}={'@' + str(path)!r} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CommandError(f"{option}={'@' + str(path)!r} has no offsets: {_FORMS}") from error
