"""The newest of what people said, in the form it is shown in: no text of theirs unless it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from feedback.events import (
    Correction,
    Event,
    FeedbackAmended,
    FeedbackRetracted,
    FeedbackSet,
    Flag,
    Implicit,
    Judgement,
    Preference,
    Ranking,
    Rating,
    Score,
)
from feedback.log import EventLog, Record, TopicReader
from feedback.replay import records_between

Wanted = Callable[[Event], bool]
_TEXT = {"comment", "text"}
_FURTHER = 8
"""How many times more records are looked at when too few of them were wanted."""


def wanted_of(project: str, kinds: list[str]) -> Wanted:
    """Feedback of a project, of any kind where none is named."""

    def wanted(event: Event) -> bool:
        data = event.data
        if event.project != project or not isinstance(data, FeedbackSet | FeedbackAmended | FeedbackRetracted):
            return False
        return not kinds or (data.judgement.kind if isinstance(data, FeedbackSet) else data.kind) in kinds

    return wanted


def newest(log: EventLog, count: int, wanted: Wanted) -> tuple[list[Event], TopicReader]:
    """The last ``count`` wanted events by time, oldest first, and a reader of what comes after. Raises `LogError`."""
    partitions = range(log.partitions("feedback"))
    ends = {p: log.end("feedback", p) for p in partitions}
    firsts = {p: log.earliest("feedback", p) for p in partitions}
    far = max(count, 1)
    while True:
        starts = {p: max(firsts[p], ends[p] - far) for p in partitions}
        records = [r for p in partitions for r in records_between(log, "feedback", p, starts[p], ends[p]) if wanted(r.event)]
        if len(records) >= count or starts == firsts:
            break
        far *= _FURTHER
    found = {record.event.id: record for record in sorted(records, key=_by_time, reverse=True)}
    ordered = sorted(found.values(), key=_by_time)
    return [record.event for record in ordered[len(ordered) - min(count, len(ordered)) :]], TopicReader(log, "feedback", ends)


def _by_time(record: Record) -> tuple[float, int, int]:
    return record.event.time, record.position.partition, record.position.offset


def shown(event: Event, *, text: bool) -> dict[str, Any]:
    """A feedback event for people or programs; ``text``: with what its rater wrote."""
    data = event.data
    assert isinstance(data, FeedbackSet | FeedbackAmended | FeedbackRetracted)
    said: dict[str, Any] = {
        "time": event.time,
        "id": event.id,
        "type": data.type,
        "kind": data.judgement.kind if isinstance(data, FeedbackSet) else data.kind,
        "value": value_of(data.judgement) if isinstance(data, FeedbackSet) else None,
        "rater": data.rater,
        "completion_ids": list(data.target.completion_ids),
        "comparison_id": data.target.comparison_id,
        "client_sequence": data.client_sequence,
    }
    if isinstance(data, FeedbackSet):
        said |= {
            "source": data.source,
            "adapters": [exposure.adapter for exposure in data.exposures],
            "tags": list(data.judgement.tags),
            "decision_ms": data.judgement.decision_ms,
            "key_id": data.key_id,
            "stream": data.stream,
            "task": data.task,
        }
        if text:
            said["comment"] = data.judgement.comment
            if isinstance(data.judgement, Correction):
                said["text"] = data.judgement.text
    elif data.name:
        said["metric" if data.kind == "score" else "action"] = data.name
    if isinstance(data, FeedbackAmended):
        changes = _as_said(data.changes)
        said["changes"] = changes if text else {name: None if name in _TEXT else value for name, value in changes.items()}
    return said


def _as_said(changes: dict[str, Any]) -> dict[str, Any]:
    """A score's value is kept as a number; ``boolean``, which nobody sent, tells that it was true or false."""
    said = {name: value for name, value in changes.items() if name != "boolean"}
    return said | {"value": bool(said["value"])} if changes.get("boolean") else said


def value_of(judgement: Judgement) -> Any:
    """What a judgement says, in short and without text."""
    if isinstance(judgement, Rating | Preference):
        return judgement.value
    if isinstance(judgement, Ranking):
        return list(judgement.ranks)
    if isinstance(judgement, Score):
        return {judgement.metric: bool(judgement.value) if judgement.boolean else judgement.value}
    if isinstance(judgement, Flag):
        return list(judgement.harms)
    return judgement.action if isinstance(judgement, Implicit) else None
