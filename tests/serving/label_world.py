"""A log with answers in it, streams over them, and a clock and a coin that tests set."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from feedback.events import CompletionCreated, CompletionText, Event, Exposure, FeedbackSet, Message
from feedback.log import TopicReader
from feedback.receipts import Receipts
from feedback.sqlite_log import SqliteLog
from serving.keys import Caller, KeyStore
from serving.labeling.answers import parse_answer
from serving.labeling.desk import Desk, Handed
from serving.labeling.places import find_places
from serving.labeling.plan import StreamPlan
from serving.labeling.queue import TaskQueue
from serving.labeling.streams import Stream, Streams

SECRET = b"a secret for receipts in tests, long enough"


def completion(name: str, *, question: str = "q", comparison: str | None = None, position: int = 0, **more: Any) -> Event:
    """An answer; ``question`` is its conversation and its prompt."""
    data: dict[str, Any] = {
        "completion_id": name,
        "comparison_id": comparison,
        "position": position,
        "conversation": question,
        "user": "u",
        "text": CompletionText(messages=(Message(role="user", content=f"asked {question}"),), answer=f"answer {name}"),
        "exposure": Exposure(completion_id=name, adapter=more.pop("adapter", "base")),
    }
    time, project = more.pop("time", 100.0), more.pop("project", "default")
    return Event(id=f"e-{name}", time=time, project=project, key=question, data=CompletionCreated(**(data | more)))


class World:
    """``now`` is the clock; ``coins`` are what chance gives next, 0 when there are none."""

    def __init__(
        self,
        folder: Path,
        chance: Callable[[], float] | None = None,
        *,
        database: Path | str | None = None,
        log: Path | None = None,
    ) -> None:
        self.now = 1000.0
        self.coins: list[float] = []
        self.log = SqliteLog(log or folder / "log.sqlite")
        self.keys = KeyStore(database or folder / "plaudit.sqlite")
        self.streams = Streams(self.keys, self.clock)
        self.queue = TaskQueue(self.streams, self.clock, chance or (lambda: self.coins.pop(0) if self.coins else 0.0))
        self.receipts = Receipts((SECRET,), self.clock)
        self.desk = Desk(self.streams, self.queue, self.log, self.receipts, b"users", self.clock)

    def clock(self) -> float:
        return self.now

    @contextmanager
    def desk_with(self, *, queue: Any = None, log: Any = None) -> Iterator[None]:
        """Meanwhile the desk works with these instead."""
        usual = self.desk
        self.desk = Desk(self.streams, queue or self.queue, log or self.log, self.receipts, b"users", self.clock)
        try:
            yield
        finally:
            self.desk = usual

    def answered(self, *names: str, **more: Any) -> None:
        """Answers in the log, each to a question of its own."""
        self.log.append([completion(name, **({"question": f"of {name}"} | more)) for name in names])

    def stream(self, name: str = "work", *, draw: bool = True, **plan: Any) -> Stream:
        made = self.streams.create("default", name, StreamPlan(**({"kind": "rating"} | plan)))
        if draw:
            self.streams.draw(made, self.log)
        return made

    def golden(self, stream: Stream, right: Any, *names: str) -> None:
        found = find_places(self.log, names)
        assert self.streams.add(stream, [found[name].place for name in names], right_answer=right) is not None

    def items(self, stream: Stream, *names: str) -> None:
        """Each an item of its own, in this order."""
        found = find_places(self.log, names)
        for name in names:
            assert self.streams.add(stream, [found[name].place]) is not None

    def next(self, stream: Stream, who: str = "ann") -> Handed | None:
        return self.desk.next(annotator(who), stream.id)

    def task(self, stream: Stream, who: str = "ann") -> Handed:
        handed = self.next(stream, who)
        assert handed is not None
        return handed

    def say(self, handed: Handed, who: str = "ann", **body: Any) -> tuple[str, ...]:
        return self.desk.answer(annotator(who), handed.task.id, parse_answer(json.dumps(body).encode()))

    def thumb(self, stream: Stream, value: int, who: str = "ann") -> str:
        """Rate the next answer; which one it was."""
        handed = self.task(stream, who)
        self.say(handed, who, type="rating", value=value)
        return handed.shown[0].place.completion_id

    def facts(self) -> list[FeedbackSet]:
        records = TopicReader(self.log, "feedback").drain()
        return [record.event.data for record in records if isinstance(record.event.data, FeedbackSet)]

    def close(self) -> None:
        self.keys.close()
        self.log.close()


def annotator(name: str) -> Caller:
    return Caller(("default",), "annotator", f"key_{name}")


@contextmanager
def world(folder: Path, chance: Callable[[], float] | None = None, database: Path | str | None = None) -> Iterator[World]:
    made = World(folder, chance, database=database)
    try:
        yield made
    finally:
        made.close()
