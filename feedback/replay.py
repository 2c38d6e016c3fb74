"""The preference dataset anew from the log's first records: the same records give the same bytes, whoever reads them and when.

A line is one standing vote as canonical JSON (sorted keys, no spaces, UTF-8). It has no text of people's, so that erasing
somebody's changes no line, and no place in the log, so that a Kafka and the SQLite file it was fed from give the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from feedback.events import Topic
from feedback.join import Counts, Joiner, Vote
from feedback.log import EventLog, OffsetOutOfRange, Record
from feedback.raters.standing import Standings

Offsets = dict[Topic, dict[int, int]]
"""Next offset, by topic and partition."""

TOPICS: tuple[Topic, ...] = ("completions", "feedback", "control")
_PAGE = 1000
_TEXT = {"kind", "comment", "text"}


@dataclass(frozen=True)
class Point:
    """A place in the log. By ``time`` (Unix seconds) an event is before it if its own time is; by ``offsets``, if its place is.

    Offsets say it exactly. Times are those that gateways stamped: an event may come later with an earlier one.
    """

    time: float | None = None
    offsets: Offsets | None = None

    def is_after(self, record: Record) -> bool:
        """Whether the record comes before this point."""
        if self.offsets is not None:
            place = record.position
            return place.offset < self.offsets.get(place.topic, {}).get(place.partition, 0)
        return self.time is None or record.event.time < self.time

    def is_before(self, vote: Vote) -> bool:
        """Whether the vote, or with offsets any part of it, comes at this point or after."""
        if self.offsets is not None:
            return any(p.offset >= self.offsets.get(p.topic, {}).get(p.partition, 0) for p in vote.positions)
        return self.time is None or vote.time >= self.time


ANYWHERE = Point()


@dataclass(frozen=True)
class Dataset:
    lines: tuple[bytes, ...]
    """Each with its newline; by the time of the vote, then by its id."""
    counts: Counts
    """Of all facts before the end, whatever the start."""
    offsets: Offsets
    """Up to where the log was read: as the end of another replay, they give the same dataset."""
    missing: int
    """Records that retention has taken from the log's start. 0: the dataset is whole."""

    @property
    def sha256(self) -> str:
        """Of all lines, in hexadecimal digits."""
        digest = hashlib.sha256()
        for line in self.lines:
            digest.update(line)
        return digest.hexdigest()


def replay(log: EventLog, project: str, start: Point = ANYWHERE, end: Point = ANYWHERE) -> Dataset:
    """What stands at ``end`` of what was said at ``start`` or later. Raises `feedback.log.LogError`.

    The log is always read from its first record: what stands depends on all that was said before. Votes of paused raters that
    are in doubt are left out, as the trainer leaves them out.
    """
    ends = _ends(log) if end.offsets is None else _checked(log, end.offsets)
    firsts = {topic: {p: log.earliest(topic, p) for p in ends[topic]} for topic in TOPICS}
    joiner, standings = Joiner(project), Standings(project)
    for record in _records(log, firsts, ends):
        if end.is_after(record):
            joiner.add(record)
            standings.add(record)
    lines = tuple(line_of(vote) for vote in standings.heard(joiner.votes()) if start.is_before(vote))
    missing = sum(first for partitions in firsts.values() for first in partitions.values())
    return Dataset(lines, joiner.counts, ends, missing)


def line_of(vote: Vote) -> bytes:
    """A vote as one line of canonical JSON, without any text of people's."""
    text = json.dumps(row_of(vote), sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def row_of(vote: Vote) -> dict[str, Any]:
    shown = zip(vote.completions, vote.exposures, strict=True)
    return {
        "feedback_id": vote.feedback_id,
        "time": vote.time,
        "project": vote.project,
        "conversation": vote.key,
        "rater": vote.rater,
        "source": vote.source,
        "key_id": vote.key_id,
        "stream": vote.stream,
        "task": vote.task,
        "kind": vote.judgement.kind,
        "judgement": vote.judgement.model_dump(mode="json", exclude=_TEXT),
        "comparison_id": vote.target.comparison_id,
        "completions": [
            {
                "id": completion.completion_id,
                "adapter": exposure.adapter,
                "arm": exposure.arm,
                "propensity": exposure.propensity,
                "prompt_hash": completion.prompt_hash,
                "answer_hash": completion.answer_hash,
            }
            for completion, exposure in shown
        ],
    }


def _ends(log: EventLog) -> Offsets:
    return {topic: {p: log.end(topic, p) for p in range(log.partitions(topic))} for topic in TOPICS}


def _checked(log: EventLog, offsets: Offsets) -> Offsets:
    """The offsets of every partition, those not named being 0; none may be beyond the log's end."""
    ends = _ends(log)
    for topic, partitions in ends.items():
        for partition, end in partitions.items():
            wanted = offsets.get(topic, {}).get(partition, 0)
            if wanted > end:
                raise OffsetOutOfRange(f"{topic}/{partition}: offset {wanted} is beyond the log's end {end}")
            partitions[partition] = wanted
    return ends


def _records(log: EventLog, firsts: Offsets, ends: Offsets) -> Iterator[Record]:
    for topic in TOPICS:
        for partition, end in ends[topic].items():
            yield from records_between(log, topic, partition, firsts[topic][partition], end)


def records_between(log: EventLog, topic: Topic, partition: int, start: int, end: int) -> Iterator[Record]:
    """The records of a partition from offset ``start`` on, up to ``end`` exclusive."""
    while start < end:
        page: Iterable[Record] = log.read(topic, partition, start, min(_PAGE, end - start))
        for record in page:
            if record.position.offset < end:
                yield record
            start = record.position.offset + 1
