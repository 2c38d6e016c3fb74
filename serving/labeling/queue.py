"""Tasks: an item in the hands of a rater, leased for a while, done once.

Every rule that must hold under concurrency is a constraint of the tables: who is second to insert loses, and looks again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, exists, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from feedback.ids import new_id
from serving.labeling import tables
from serving.labeling.plan import EntryTest, Live
from serving.labeling.streams import Item, Stream, Streams, item_of

_SPREAD = 20
"""Annotators who ask at once are given one of so many items, so that they rarely meet."""

_KEEPING_S = 60.0
"""How long an answer that came in time may take to be on disk."""

_toss = random.SystemRandom().random
_tasks, _items = tables.tasks, tables.items


class EntryTestFailed(Exception):
    """Too few golden items right: no more tasks of this stream."""


class LeaseExpired(Exception):
    """The task was not done in time, and may be somebody else's now."""


class AlreadyAnswered(Exception):
    """The task is done, with another answer."""


class _ItemFull(Exception):
    """All raters it needs have it."""


@dataclass(frozen=True)
class Task:
    """A row of ``label_tasks`` that is not about statistics. Times are Unix seconds."""

    id: str
    stream: str
    item: str
    rater: str
    golden: bool
    coin: float
    """Uniform on [0, 1): puts the answers in their order of display."""
    handed_out: float
    lease_until: float
    digest: str | None
    server_ms: float | None
    done: float | None
    outcome: str | None


@dataclass(frozen=True)
class Progress:
    """What became of a task. ``correct`` is of golden items."""

    outcome: str
    reason: str | None = None
    correct: bool | None = None


class TaskQueue:
    """``chance`` is uniform on [0, 1), for everything that is left to it."""

    def __init__(self, streams: Streams, clock: Callable[[], float] = time.time, chance: Callable[[], float] = _toss) -> None:
        self._streams = streams
        self._clock = clock
        self._chance = chance

    def next(self, stream: Stream, rater: str, key_id: str) -> tuple[Task, Item] | None:
        """The rater's open task, else a new one; None when there is nothing. Raises `EntryTestFailed`."""
        while True:
            self._end_leases(stream.id)
            mine = self._open_task(stream.id, rater)
            if mine is not None:
                return mine, self.item(mine.item)
            if stream.closed is not None:
                return None
            candidate = self._candidate(stream, rater)
            if candidate is None:
                return None
            task = self._lease(stream, rater, key_id, candidate)
            if task is not None:
                return task, candidate

    def find(self, id: str, rater: str) -> Task:
        """The rater's task of this id. Raises LookupError."""
        with self._streams.engine.connect() as connection:
            row = connection.execute(select(_tasks).where(_tasks.c.id == id, _tasks.c.rater == rater)).first()
        if row is None:
            raise LookupError(f"task {id!r}: there is none")
        return _task(row)

    def item(self, id: str) -> Item:
        with self._streams.engine.connect() as connection:
            return item_of(connection.execute(select(_items).where(_items.c.id == id)).one())

    def claim(self, task: Task, digest: str, client_ms: float | None) -> Task:
        """Note that an answer has come, before it is written to the log: until that is done, the lease cannot end.

        Milliseconds are taken at the first claim, so that a repeated request says the same.
        Raises `LeaseExpired`, `AlreadyAnswered`.
        """
        now = self._clock()
        held = and_(_tasks.c.id == task.id, _tasks.c.open_for.is_not(None))
        values = {"digest": digest, "client_ms": client_ms, "lease_until": max(task.lease_until, now + _KEEPING_S)}
        values |= {"server_ms": 1000 * max(0.0, now - task.handed_out)}
        other = or_(_tasks.c.digest.is_(None), _tasks.c.digest != digest)
        with self._streams.engine.begin() as connection:
            connection.execute(update(_tasks).where(held, other, _tasks.c.lease_until > now).values(**values))
        claimed = self.find(task.id, task.rater)
        if claimed.digest == digest and claimed.outcome != "expired":
            return claimed
        if claimed.done is not None:
            raise AlreadyAnswered(task.id)
        raise LeaseExpired(task.id)

    def finish(self, task: Task, progress: Progress) -> None:
        """The answer is on disk. A skipped task makes room for another rater."""
        values: dict[str, Any] = {"outcome": progress.outcome, "reason": progress.reason, "correct": progress.correct}
        values |= {"done": self._clock(), "open_for": None}
        if progress.outcome == "skipped":
            values["slot"] = None
        with self._streams.engine.begin() as connection:
            connection.execute(update(_tasks).where(_tasks.c.id == task.id, _tasks.c.done.is_(None)).values(**values))

    def drop(self, task: Task) -> None:
        """Take a task back that cannot be shown."""
        with self._streams.engine.begin() as connection:
            connection.execute(_tasks.delete().where(_tasks.c.id == task.id, _tasks.c.done.is_(None)))

    def passed(self, stream: Stream, rater: str) -> bool | None:
        """How the entry test went; None while it goes on."""
        test = stream.plan.entry_test
        if not test.items:
            return True
        done = and_(_tasks.c.stream == stream.id, _tasks.c.rater == rater, _tasks.c.golden, _tasks.c.done.is_not(None))
        judged = select(_tasks.c.correct).where(done, _tasks.c.outcome != "skipped").order_by(_tasks.c.done, _tasks.c.id)
        golden = and_(_items.c.stream == stream.id, _items.c.golden, ~_items.c.gone)
        with self._streams.engine.connect() as connection:
            right = [bool(correct) for correct in connection.execute(judged.limit(test.items)).scalars()]
            if len(right) == test.items:
                return entry_verdict(test, right)
            had = set(connection.execute(select(_tasks.c.item).where(done)).scalars())
            left = set(connection.execute(select(_items.c.id).where(golden)).scalars()) - had
        return entry_verdict(test, right, skipped=len(had) - len(right), left=len(left))

    # handing out

    def _candidate(self, stream: Stream, rater: str) -> Item | None:
        passed = self.passed(stream, rater)
        if passed is False:
            raise EntryTestFailed(stream.name)
        if passed is None:
            return self._golden(stream, rater)
        real = self._real(stream, rater)
        if real is not None and self._chance() < stream.plan.golden_rate:
            return self._golden(stream, rater) or real
        return real

    def _golden(self, stream: Stream, rater: str) -> Item | None:
        query = select(_items).where(_items.c.stream == stream.id, _items.c.golden, ~_items.c.gone, ~_has_had(rater))
        with self._streams.engine.connect() as connection:
            return self._one_of([item_of(row) for row in connection.execute(query.order_by(_items.c.id).limit(_SPREAD))])

    def _real(self, stream: Stream, rater: str) -> Item | None:
        """An item with room for another rater; those that some have judged come first."""
        slots = select(_tasks.c.item, func.count().label("n")).where(_tasks.c.stream == stream.id, _tasks.c.slot.is_not(None))
        taken = slots.group_by(_tasks.c.item).subquery()
        n = func.coalesce(taken.c.n, 0)
        query = (
            select(_items, n.label("taken"))
            .outerjoin(taken, taken.c.item == _items.c.id)
            .where(_items.c.stream == stream.id, ~_items.c.golden, ~_items.c.gone, n < stream.plan.overlap, ~_has_had(rater))
            .order_by(n.desc(), _items.c.number)
            .limit(_SPREAD)
        )
        with self._streams.engine.connect() as connection:
            found = connection.execute(query).all()
        if not found and isinstance(stream.plan.source, Live):
            made = self._streams.new_conversation(stream)
            return None if made is None else self.item(made)
        return self._one_of([item_of(row) for row in found])

    def _one_of(self, found: list[Item]) -> Item | None:
        return found[int(self._chance() * len(found))] if found else None

    def _lease(self, stream: Stream, rater: str, key_id: str, item: Item) -> Task | None:
        """None when somebody else was faster."""
        now = self._clock()
        values: dict[str, Any] = {
            "id": new_id("task_"),
            "key_id": key_id,
            "open_for": f"{stream.id} {rater}",
            "coin": self._chance(),
            "handed_out": now,
            "lease_until": now + stream.plan.lease_s,
            "digest": None,
            "server_ms": None,
            "client_ms": None,
            "outcome": None,
        }
        try:
            with self._streams.engine.begin() as connection:
                lapsed = and_(_tasks.c.item == item.id, _tasks.c.rater == rater, _tasks.c.outcome == "expired")
                again = connection.execute(update(_tasks).where(lapsed).values(**values))
                if not again.rowcount:
                    about = {"stream": stream.id, "item": item.id, "rater": rater, "golden": item.golden, "lapses": 0}
                    connection.execute(insert(_tasks).values(**values, **about, slot=None, done=None))
                if not item.golden:
                    slot = _free_slot(connection, item.id, stream.plan.overlap)
                    if slot is None:
                        raise _ItemFull
                    connection.execute(update(_tasks).where(_tasks.c.id == values["id"]).values(slot=slot))
        except (IntegrityError, _ItemFull):
            return None
        return self.find(values["id"], rater)

    def _open_task(self, stream: str, rater: str) -> Task | None:
        with self._streams.engine.connect() as connection:
            row = connection.execute(select(_tasks).where(_tasks.c.open_for == f"{stream} {rater}")).first()
        return None if row is None else _task(row)

    def _end_leases(self, stream: str) -> None:
        """Tasks that were not done in time are free for others, and for their own rater again."""
        late = and_(_tasks.c.stream == stream, _tasks.c.open_for.is_not(None), _tasks.c.lease_until <= self._clock())
        with self._streams.engine.connect() as connection:
            if connection.execute(select(_tasks.c.id).where(late).limit(1)).first() is None:
                return
        with self._streams.engine.begin() as connection:
            values = {"open_for": None, "slot": None, "outcome": "expired", "lapses": _tasks.c.lapses + 1}
            connection.execute(update(_tasks).where(late).values(**values))


def entry_verdict(test: EntryTest, right: Sequence[bool], *, skipped: int = 0, left: int = 0) -> bool | None:
    """Whether the golden items that a rater judged first were ``right`` often enough; None while too few are judged.

    In place of ``skipped`` ones others are asked. Once none are ``left``, those that were skipped are not right: whoever
    skipped could not end the test otherwise.
    """
    if len(right) < test.items and (left or len(right) + skipped < test.items):
        return None
    return not test.items or sum(right[: test.items]) / test.items >= test.share


def _has_had(rater: str) -> Any:
    """The rater has this item, or has done or skipped it. What lapsed may come again."""
    had = and_(_tasks.c.item == _items.c.id, _tasks.c.rater == rater, func.coalesce(_tasks.c.outcome, "") != "expired")
    return exists(select(_tasks.c.id).where(had))


def _free_slot(connection: Connection, item: str, overlap: int) -> int | None:
    taken = set(connection.execute(select(_tasks.c.slot).where(_tasks.c.item == item, _tasks.c.slot.is_not(None))).scalars())
    return next((slot for slot in range(overlap) if slot not in taken), None)


def _task(row: Any) -> Task:
    return Task(**{name: getattr(row, name) for name in Task.__dataclass_fields__})
