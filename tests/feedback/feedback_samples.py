"""Events for tests, with only what a test is about spelled out."""

from __future__ import annotations

from typing import Any

from feedback.events import (
    CompletionCreated,
    CompletionText,
    Event,
    Exposure,
    FeedbackAmended,
    FeedbackKind,
    FeedbackRetracted,
    FeedbackSet,
    Judgement,
    Message,
    Preference,
    Rating,
    Target,
)
from feedback.log import Position, Record


def completion(name: str, *, key: str = "c1", outcome: str = "ok", comparison: str | None = None, project: str = "p") -> Event:
    data = CompletionCreated(
        completion_id=name,
        comparison_id=comparison,
        conversation=key,
        user="u1",
        text=CompletionText(messages=(Message(role="user", content="hi"),), answer=f"answer of {name}"),
        exposure=Exposure(completion_id=name, adapter="base"),
        outcome=outcome,
    )
    return Event(id=f"e-{name}", time=100.0, project=project, key=key, data=data)


def rating(
    name: str,
    target: str = "x1",
    value: int = 1,
    *,
    rater: str = "r1",
    sequence: int | None = None,
    key: str = "c1",
    time: float = 200.0,
    project: str = "p",
    comment: str = "",
) -> Event:
    data = FeedbackSet(
        feedback_id=name,
        target=Target(completion_ids=(target,)),
        rater=rater,
        judgement=Rating(value=value, comment=comment),
        client_sequence=sequence,
    )
    return Event(id=f"e-{name}", time=time, project=project, key=key, data=data)


def judged(
    name: str, judgement: Judgement, targets: tuple[str, ...] = ("x1",), *, rater: str = "r1", time: float = 200.0
) -> Event:
    """A judgement of any kind."""
    data = FeedbackSet(feedback_id=name, target=Target(completion_ids=targets), rater=rater, judgement=judgement)
    return Event(id=f"e-{name}", time=time, project="p", key="c1", data=data)


def amendment(
    name: str,
    changes: dict[str, Any],
    target: str = "x1",
    *,
    kind: FeedbackKind = "rating",
    metric: str = "",
    sequence: int | None = None,
) -> Event:
    data = FeedbackAmended(
        feedback_id=name,
        target=Target(completion_ids=(target,)),
        rater="r1",
        kind=kind,
        name=metric,
        changes=changes,
        client_sequence=sequence,
    )
    return Event(id=f"e-{name}", time=300.0, project="p", key="c1", data=data)


def preference(
    name: str, targets: tuple[str, str] = ("x1", "x2"), value: str = "a", *, rater: str = "r1", time: float = 200.0
) -> Event:
    data = FeedbackSet(
        feedback_id=name,
        target=Target(completion_ids=targets, comparison_id="cmp-" + "-".join(targets)),
        rater=rater,
        judgement=Preference(value=value),
    )
    return Event(id=f"e-{name}", time=time, project="p", key="c1", data=data)


def retraction(name: str, target: str = "x1", *, rater: str = "r1", sequence: int | None = None) -> Event:
    data = FeedbackRetracted(
        feedback_id=name, target=Target(completion_ids=(target,)), rater=rater, kind="rating", client_sequence=sequence
    )
    return Event(id=f"e-undo-{name}", time=300.0, project="p", key="c1", data=data)


def record(event: Event, offset: int = 0, partition: int = 0) -> Record:
    return Record(Position(event.topic, partition, offset), event)
