"""How a stream and its raters fare: what was handed out, how long it took, what was refused, how golden items went."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import mean, median
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine, select

from serving.labeling import tables
from serving.labeling.plan import EntryTest, StreamPlan
from serving.labeling.queue import entry_verdict
from serving.labeling.streams import Item, Stream, Streams

_JUDGED = ("answered", "harmful")


class TaskFigures(BaseModel):
    """Of one stream or one rater. Rates are None where there is nothing to take them of."""

    model_config = ConfigDict(frozen=True)

    handed_out: int = Field(description="Tasks, open ones included.")
    answered: int = Field(description="Judged, harmful ones included.")
    skipped: int
    harmful: int
    expired: int = Field(description="Times a lease ended without an answer.")
    open: int
    golden: int = Field(description="Golden items judged; skipped ones are no answers.")
    golden_accuracy: float | None = Field(description="Right share of them.")
    rejection_rate: float | None = Field(description="Skipped share of what was done, golden items included.")
    harmful_rate: float | None = Field(description="Share of what was judged.")
    seconds_median: float | None = Field(description="From task to answer, by the server's clock; skipped ones left out.")
    seconds_mean: float | None


class StreamView(BaseModel):
    """A stream with its figures, for operators."""

    model_config = ConfigDict(frozen=True)

    id: str
    project: str
    name: str
    created: float
    closed: float | None
    plan: StreamPlan
    items: int = Field(description="Towards the quota; golden ones and those that are gone are not counted.")
    golden_items: int
    gone: int = Field(description="Items whose text is erased, or older than the log.")
    complete: int = Field(description="Items that as many raters have judged as there should be.")
    missing_golden: int = Field(description="Golden items to add before the entry test can be held.")
    raters: int
    figures: TaskFigures


class RaterView(BaseModel):
    """One annotator's key in one stream."""

    model_config = ConfigDict(frozen=True)

    stream: str
    rater: str = Field(description="As in the log.")
    key_id: str
    admitted: bool | None = Field(description="Whether the entry test was passed; None while it goes on.")
    figures: TaskFigures


class TaskView(BaseModel):
    """One task, without what it is about."""

    model_config = ConfigDict(frozen=True)

    id: str
    stream: str
    item: str
    rater: str
    key_id: str
    golden: bool
    handed_out: float
    lease_until: float
    done: float | None
    outcome: str | None = Field(description="answered, skipped, harmful, expired; None: open.")
    reason: str | None
    correct: bool | None
    server_ms: float | None
    client_ms: float | None


def stream_view(streams: Streams, stream: Stream) -> StreamView:
    items, rows = streams.items(stream.id), task_rows(streams.engine, stream.id)
    golden = [item for item in items if item.golden and not item.gone]
    return StreamView(
        id=stream.id,
        project=stream.project,
        name=stream.name,
        created=stream.created,
        closed=stream.closed,
        plan=stream.plan,
        items=sum(not item.golden and not item.gone for item in items),
        golden_items=len(golden),
        gone=sum(item.gone for item in items),
        complete=_complete(items, rows, stream.plan.overlap),
        missing_golden=max(0, stream.plan.entry_test.items - len(golden)),
        raters=len({row.rater for row in rows}),
        figures=figures(rows),
    )


def rater_views(streams: Streams, stream: Stream) -> list[RaterView]:
    """Whoever has had a task of the stream, by key."""
    golden = {item.id for item in streams.items(stream.id) if item.golden and not item.gone}
    by_rater: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in task_rows(streams.engine, stream.id):
        by_rater[row.key_id, row.rater].append(row)
    return [
        RaterView(
            stream=stream.id,
            rater=rater,
            key_id=key_id,
            admitted=_admitted(stream.plan.entry_test, rows, golden),
            figures=figures(rows),
        )
        for (key_id, rater), rows in sorted(by_rater.items())
    ]


def task_views(streams: Streams, stream: Stream) -> list[TaskView]:
    """The newest last."""
    return [
        TaskView(**{name: getattr(row, name) for name in TaskView.model_fields}) for row in task_rows(streams.engine, stream.id)
    ]


def task_rows(engine: Engine, stream: str) -> Sequence[Any]:
    table = tables.tasks
    with engine.connect() as connection:
        return connection.execute(select(table).where(table.c.stream == stream).order_by(table.c.handed_out, table.c.id)).all()


def figures(rows: Sequence[Any]) -> TaskFigures:
    outcomes = Counter(row.outcome for row in rows)
    judged = [row for row in rows if row.outcome in _JUDGED]
    golden = [row for row in judged if row.golden]
    seconds = [row.server_ms / 1000 for row in judged if row.server_ms is not None]
    done = len(judged) + outcomes["skipped"]
    return TaskFigures(
        handed_out=len(rows),
        answered=len(judged),
        skipped=outcomes["skipped"],
        harmful=outcomes["harmful"],
        expired=sum(row.lapses for row in rows),
        open=sum(row.open_for is not None for row in rows),
        golden=len(golden),
        golden_accuracy=_share(sum(bool(row.correct) for row in golden), len(golden)),
        rejection_rate=_share(outcomes["skipped"], done),
        harmful_rate=_share(outcomes["harmful"], len(judged)),
        seconds_median=median(seconds) if seconds else None,
        seconds_mean=mean(seconds) if seconds else None,
    )


def _complete(items: Sequence[Item], rows: Sequence[Any], overlap: int) -> int:
    judged = Counter(row.item for row in rows if row.outcome in _JUDGED)
    return sum(not item.golden and judged[item.id] >= overlap for item in items)


def _admitted(test: EntryTest, rows: Sequence[Any], golden: set[str]) -> bool | None:
    """``rows`` are of one rater; ``golden`` items can be asked."""
    done = [row for row in rows if row.golden and row.done is not None]
    judged = sorted((row.done, row.id, bool(row.correct)) for row in done if row.outcome in _JUDGED)
    right, left = [correct for _, _, correct in judged], golden - {row.item for row in done}
    return entry_verdict(test, right, skipped=len(done) - len(judged), left=len(left))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
