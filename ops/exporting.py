"""The log as a data set in one file: whole or not at all, and the same bytes for the same log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from feedback.dataset import dataset_of
from feedback.events import TOPICS, Event
from feedback.join import Joiner
from feedback.log import EventLog, Position, TopicReader
from feedback.raters.standing import Standings
from ops.errors import CommandError
from ops.row_writers import ExportFormat, write_jsonl, write_parquet
from ops.whole_files import whole_file

_PAGE = 1000

Row = dict[str, Any]


def export(log: EventLog, *, format: ExportFormat, project: str, path: Path, parquet: bool) -> dict[str, Any]:
    """Write the project's standing votes (``raw``: its events) to the file, and say what is in it.

    Raises `CommandError` if there is nothing to write, or it cannot be written: the file is then as it was before.
    """
    report: dict[str, Any] = {"format": format, "project": project, "file": str(path)}
    if format == "raw":
        counts: Counter[str] = Counter()
        erased: Counter[str] = Counter()
        rows: Iterable[Row] = _counted(raw_rows(log, project), project, counts, erased)
        _write(path, rows, format, parquet)
        return report | {"rows": counts.total(), "types": dict(sorted(counts.items())), "left_out": dict(erased)}
    joiner = Joiner(project)
    for topic in ("completions", "feedback"):
        joiner.extend(TopicReader(log, topic).everything())
    votes = joiner.votes()
    heard = _standings(log, project).heard(votes)
    dataset = dataset_of(format, heard)
    left_out: dict[str, int] = dict(dataset.left_out.items())
    if len(votes) > len(heard):
        left_out["unheard"] = len(votes) - len(heard)
    if not dataset.rows:
        raise _nothing(project, f"no vote says anything as --format {format}; left out: {left_out or 'none'}")
    _write(path, dataset.rows, format, parquet)
    return report | {
        "rows": len(dataset.rows),
        "votes": dataset.votes,
        "splits": dataset.splits,
        "left_out": left_out,
    }


def _standings(log: EventLog, project: str) -> Standings:
    """Whose votes count: those of paused raters that are in doubt teach nobody."""
    standings = Standings(project)
    for record in TopicReader(log, "control").everything():
        standings.add(record)
    return standings


def raw_rows(log: EventLog, project: str) -> Iterator[Row]:
    """Every event of a project, each once, by place in the log; a text that was erased is missing, and its event says so."""
    for topic in TOPICS:
        seen: set[str] = set()
        for partition in range(log.partitions(topic)):
            offset, end = log.earliest(topic, partition), log.end(topic, partition)
            while offset < end:
                records = log.read(topic, partition, offset, _PAGE)
                for record in records:
                    if record.event.project == project and record.event.id not in seen:
                        seen.add(record.event.id)
                        yield _raw(record.position, record.event)
                offset = records[-1].position.offset + 1 if records else end


def _raw(position: Position, event: Event) -> Row:
    return {
        **position._asdict(),
        "id": event.id,
        "time": event.time,
        "project": event.project,
        "key": event.key,
        "type": event.data.type,
        "erased": bool(getattr(event.data, "sealed", "")),
        "data": event.data.model_dump(mode="json", exclude={"sealed"}),
    }


def _counted(rows: Iterable[Row], project: str, counts: Counter[str], erased: Counter[str]) -> Iterator[Row]:
    for row in rows:
        counts[row["type"]] += 1
        if row["erased"]:
            erased["erased"] += 1
        yield row
    if not counts:
        raise _nothing(project, "the log has no event of it")


def _nothing(project: str, why: str) -> CommandError:
    return CommandError(f"--project={project!r}: there is nothing to export: {why}")


def _write(path: Path, rows: Iterable[Row], format: ExportFormat, parquet: bool) -> None:
    with _named(path), whole_file(path) as file:
        if parquet:
            write_parquet(file, rows, format)
        else:
            write_jsonl(file, rows)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandError(f"--out={str(path)!r} cannot be written: {error.strerror or error}") from error
