"""Dead letters: what nobody could use, why, and putting it right once that can be done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from feedback.events import DeadLetter, Event, Unrecognized
from feedback.log import EventLog, LogError, LogUnavailable, OffsetOutOfRange, TopicReader

Outcome = Literal["requeued", "in_place", "joins_by_itself", "unreadable", "gone"]


class Letter(NamedTuple):
    event: Event
    data: DeadLetter

    @property
    def reason(self) -> str:
        """``poison`` (bytes that are no event), ``refused`` (by Kafka) or ``no_target`` (feedback without its answer)."""
        return self.data.reason.partition(":")[0]

    @property
    def position(self) -> str:
        return f"{self.data.topic}:{self.data.partition}:{self.data.offset}"

    def as_json(self, now: float) -> dict[str, Any]:
        """``position`` is the record's own: of an event that Kafka refused, its place in the gateway's outbox."""
        return {
            "id": self.event.id,
            "reason": self.reason,
            "detail": self.data.reason.partition(": ")[2],
            "position": self.position,
            "project": self.event.project,
            "time": self.event.time,
            "age_seconds": round(max(0.0, now - self.event.time), 3),
            "bytes": len(self.data.body.encode()),
        }


class Requeued(NamedTuple):
    letter: Letter
    outcome: Outcome
    detail: str


def letters_of(log: EventLog, project: str) -> list[Letter]:
    """A project's letters, and those of bytes that nobody can say whose they are; each once, oldest first."""
    found: dict[str, Letter] = {}
    for record in TopicReader(log, "dead-letter").everything():
        data = record.event.data
        if isinstance(data, DeadLetter) and record.event.project in ("", project):
            found.setdefault(record.event.id, Letter(record.event, data))
    return sorted(found.values(), key=lambda letter: (letter.event.time, letter.event.id))


def requeue(log: EventLog, letters: Iterable[Letter]) -> list[Requeued]:
    """Try each letter's record again. As often as one likes: events keep their ids. Raises `LogUnavailable`."""
    return [Requeued(letter, *_requeue(log, letter)) for letter in letters]


def _requeue(log: EventLog, letter: Letter) -> tuple[Outcome, str]:
    if letter.reason == "no_target":
        return "joins_by_itself", "the feedback is in the log and joins its answer in every replay, should that come"
    if letter.reason == "refused":
        return _resend(log, letter)
    return _append_again(log, letter)


def _resend(log: EventLog, letter: Letter) -> tuple[Outcome, str]:
    resend = getattr(log, "resend", None)
    if resend is not None and resend(letter.data):
        return "requeued", "it is sent to Kafka again; refused once more, it gets a new letter"
    return "gone", "it is not in this outbox, or was requeued: run this with the data folder of the gateway that took it"


def _append_again(log: EventLog, letter: Letter) -> tuple[Outcome, str]:
    data = letter.data
    try:
        (record, *_) = log.read(data.topic, data.partition, data.offset, 1)  # type: ignore[arg-type]
    except (OffsetOutOfRange, ValueError):
        return "gone", "the log has no record there any more"
    said = record.event.data
    if isinstance(said, DeadLetter):
        return "unreadable", said.reason
    if isinstance(said, Unrecognized):
        return "unreadable", f"{said.type} is of a newer Plaudit, or a tombstone"
    try:
        (place,) = log.append([record.event])
    except LogUnavailable:
        raise
    except LogError as error:
        return "unreadable", str(error)
    if place == record.position:
        return "in_place", "it can be read where it is: every reader that starts anew has it"
    return "requeued", f"appended again under its id {record.event.id}"
