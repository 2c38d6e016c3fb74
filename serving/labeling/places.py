"""Answers in the log, by place: labeling keeps where an answer is, never what it says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from feedback.events import CompletionCreated
from feedback.log import EventLog, OffsetOutOfRange, Record
from feedback.partition import partition_of

_BLOCK = 500
"""Records of a partition that are read at once."""

_SKEW_S = 120.0


class Place(NamedTuple):
    """A completion's id, and where its event is on the topic of completions."""

    completion_id: str
    partition: int
    offset: int


class Found(NamedTuple):
    place: Place
    project: str
    completion: CompletionCreated

    @property
    def question(self) -> str:
        """Names what was asked, in which conversation. It is never kept: by it, an erased text could be guessed."""
        asked = ((message.role, message.content) for message in self.completion.text.messages)
        return json.dumps([self.completion.conversation, *asked])


def dump_places(places: Sequence[Place]) -> str:
    return json.dumps([list(place) for place in places], separators=(",", ":"))


def load_places(text: str) -> tuple[Place, ...]:
    return tuple(Place(*parts) for parts in json.loads(text))


def about(places: Sequence[Place]) -> str:
    """One name for a set of completions, in whatever order."""
    return hashlib.sha256("\0".join(sorted(place.completion_id for place in places)).encode()).hexdigest()


def found_in(record: Record) -> Found | None:
    """The record's answer, if it is one that ended well and whose text is still there."""
    data = record.event.data
    if not isinstance(data, CompletionCreated) or data.outcome != "ok" or not data.text.answer:
        return None
    place = Place(data.completion_id, record.position.partition, record.position.offset)
    return Found(place, record.event.project, data)


def read_places(log: EventLog, places: Sequence[Place]) -> tuple[Found, ...] | None:
    """The answers, in order; None when one of them is gone: erased, or older than the log. Raises `LogError`."""
    answers = []
    for place in places:
        try:
            records = log.read("completions", place.partition, place.offset, 1)
        except OffsetOutOfRange:
            return None
        answer = found_in(records[0]) if records else None
        if answer is None or answer.place != place:
            return None
        answers.append(answer)
    return tuple(answers)


def find_places(log: EventLog, completion_ids: Collection[str]) -> dict[str, Found]:
    """Answers by their ids, those there are; the log is read from its end on until all are found. Raises `LogError`."""
    wanted, answers = set(completion_ids), dict[str, Found]()
    for record in newest_first(log):
        if not wanted:
            break
        answer = found_in(record)
        if answer is not None and answer.place.completion_id in wanted:
            answers[answer.place.completion_id] = answer
            wanted.discard(answer.place.completion_id)
    return answers


def newest_first(log: EventLog, down_to: dict[int, int] | None = None, block_size: int = _BLOCK) -> Iterator[Record]:
    """The completions' records from the end of every partition back to ``down_to``, the partitions by turns."""
    ends = {p: log.end("completions", p) for p in range(log.partitions("completions"))}
    lowest = {p: max((down_to or {}).get(p, 0), log.earliest("completions", p)) for p in ends}
    while any(ends[p] > lowest[p] for p in ends):
        block: list[Record] = []
        for partition, end in ends.items():
            start = max(lowest[partition], end - block_size)
            if start < end:
                block += log.read("completions", partition, start, end - start)
                ends[partition] = start
        yield from sorted(block, key=lambda record: record.event.time, reverse=True)


def conversation_of(log: EventLog, project: str, conversation: str, since: float, block_size: int = _BLOCK) -> list[Found]:
    """The answers of a conversation that began at ``since`` (Unix seconds), oldest first. Raises `LogError`.

    They share a partition, which is read from its end; clocks of gateways may differ by `_SKEW_S`.
    """
    partition = partition_of(conversation, log.partitions("completions"))
    end, lowest = log.end("completions", partition), log.earliest("completions", partition)
    answers: list[Found] = []
    while end > lowest:
        start = max(lowest, end - block_size)
        block = log.read("completions", partition, start, end - start)
        for record in reversed(block):
            answer = found_in(record)
            if answer is not None and (answer.project, answer.completion.conversation) == (project, conversation):
                answers.append(answer)
        if block and block[0].event.time < since - _SKEW_S:
            break
        end = start
    return answers[::-1]
