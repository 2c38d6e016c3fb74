"""Streams and their items in SQL: made, filled, listed and closed by operators."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from feedback.ids import new_id
from feedback.log import EventLog
from ops.database import create_tables
from serving.keys import KeyStore
from serving.labeling import tables
from serving.labeling.draw import draw
from serving.labeling.places import Place, about, dump_places, load_places
from serving.labeling.plan import Live, StreamPlan


@dataclass(frozen=True)
class Stream:
    """Times are Unix seconds; ``closed`` None: it is open."""

    id: str
    project: str
    name: str
    plan: StreamPlan
    created: float
    closed: float | None = None


@dataclass(frozen=True)
class Item:
    """Something to be judged, by ``overlap`` raters; a golden one by everybody, against its right answer."""

    id: str
    stream: str
    number: int | None
    places: tuple[Place, ...]
    """Empty for a conversation that an annotator is to have."""
    golden: bool
    right_answer: Any
    """As `serving.labeling.answers` compares it, in the places' order; None for an item that is not golden."""
    tests: str | None
    gone: bool


class StreamNameTaken(ValueError):
    """The project has a stream of that name."""


class Streams:
    """In the database of the keys; any number of processes may use it at once. It is opened when it is first asked something."""

    def __init__(self, keys: KeyStore, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock
        self._making = threading.Lock()
        self._made = False

    @property
    def engine(self) -> Engine:
        """Of the keys' database, with the tables of labeling. Raises `DatabaseUnavailable`."""
        engine = self._keys.engine
        with self._making:
            if not self._made:
                create_tables(engine, tables.metadata)
                self._made = True
        return engine

    def now(self) -> float:
        return self._clock()

    def create(self, project: str, name: str, plan: StreamPlan) -> Stream:
        """Raises `StreamNameTaken`."""
        stream = Stream(new_id("stream_"), project, name, plan, self._clock())
        row = {"id": stream.id, "project": project, "name": name, "plan": plan.model_dump_json(), "created": stream.created}
        try:
            with self.engine.begin() as connection:
                connection.execute(insert(tables.streams).values(**row, drawn="{}", closed=None))
        except IntegrityError as error:
            raise StreamNameTaken(f"there is a stream {name!r} in the project {project!r} already") from error
        return stream

    def list(self, projects: Sequence[str]) -> list[Stream]:
        """The streams of these projects, oldest first, closed ones included."""
        table = tables.streams
        query = select(table).where(table.c.project.in_(projects)).order_by(table.c.created, table.c.id)
        with self.engine.connect() as connection:
            return [_stream(row) for row in connection.execute(query)]

    def find(self, id: str) -> Stream:
        """Raises LookupError when there is none."""
        with self.engine.connect() as connection:
            row = connection.execute(select(tables.streams).where(tables.streams.c.id == id)).first()
        if row is None:
            raise LookupError(f"stream {id!r}: there is none")
        return _stream(row)

    def close(self, id: str) -> Stream:
        """Hand out no more of its tasks; those that are out can be done. Closing twice changes nothing."""
        self.find(id)
        table = tables.streams
        with self.engine.begin() as connection:
            connection.execute(update(table).where(table.c.id == id, table.c.closed.is_(None)).values(closed=self._clock()))
        return self.find(id)

    def items(self, stream: str) -> list[Item]:
        table = tables.items
        query = select(table).where(table.c.stream == stream).order_by(table.c.golden, table.c.number, table.c.id)
        with self.engine.connect() as connection:
            return [item_of(row) for row in connection.execute(query)]

    def add(self, stream: Stream, places: Sequence[Place], *, right_answer: Any = None, tests: str | None = None) -> str | None:
        """A new item's id; None when the stream has these answers already, or its quota is full. With a right answer: golden."""
        table, golden = tables.items, right_answer is not None
        row = {
            "id": new_id("item_"),
            "stream": stream.id,
            "about": about(places) if places else None,
            "answers": dump_places(places),
            "golden": golden,
            "right_answer": json.dumps(right_answer) if golden else None,
            "tests": tests,
            "gone": False,
            "created": self._clock(),
        }
        while True:
            number = None if golden else self._next_number(stream.id)
            if number is not None and number >= stream.plan.quota:
                return None
            try:
                with self.engine.begin() as connection:
                    connection.execute(insert(table).values(**row, number=number))
                return str(row["id"])
            except IntegrityError:
                if self._has(stream.id, row["about"]):
                    return None  # else somebody was faster with the number

    def draw(self, stream: Stream, log: EventLog) -> int:
        """Fill the stream up from the log, as its source says; how many items came. Raises `LogError`."""
        with self.engine.connect() as connection:
            drawn = connection.execute(select(tables.streams.c.drawn).where(tables.streams.c.id == stream.id)).scalar_one()
            taken = connection.execute(select(tables.items.c.about).where(tables.items.c.stream == stream.id)).scalars()
            known = {name for name in taken if name is not None}
        want = stream.plan.quota - self._next_number(stream.id)
        offsets = {int(partition): offset for partition, offset in json.loads(drawn).items()}
        found, after = draw(log, stream.id, stream.project, stream.plan, want, offsets, known)
        came = sum(self.add(stream, places) is not None for places in found)
        with self.engine.begin() as connection:
            where = tables.streams.c.id == stream.id
            connection.execute(update(tables.streams).where(where).values(drawn=json.dumps(after)))
        return came

    def new_conversation(self, stream: Stream) -> str | None:
        """An item for a conversation that is yet to be had; None when the quota is full."""
        assert isinstance(stream.plan.source, Live)
        return self.add(stream, ())

    def mark_gone(self, item: str) -> None:
        """Its answers cannot be read any more: nobody is asked about them."""
        with self.engine.begin() as connection:
            connection.execute(update(tables.items).where(tables.items.c.id == item).values(gone=True))

    def _next_number(self, stream: str) -> int:
        query = select(func.max(tables.items.c.number)).where(tables.items.c.stream == stream)
        with self.engine.connect() as connection:
            highest = connection.execute(query).scalar()
        return 0 if highest is None else int(highest) + 1

    def _has(self, stream: str, name: object) -> bool:
        table = tables.items
        query = select(table.c.id).where(table.c.stream == stream, table.c.about == name)
        with self.engine.connect() as connection:
            return connection.execute(query).first() is not None


def _stream(row: Any) -> Stream:
    return Stream(row.id, row.project, row.name, StreamPlan.model_validate_json(row.plan), row.created, row.closed)


def item_of(row: Any) -> Item:
    right = None if row.right_answer is None else json.loads(row.right_answer)
    return Item(row.id, row.stream, row.number, load_places(row.answers), row.golden, right, row.tests, row.gone)
