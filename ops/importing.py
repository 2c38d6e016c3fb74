"""Rows of a data set into the log: every row is accounted for, durable in groups, and there once however often it is imported."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from feedback.importers import FORMATS
from feedback.importers.facts import ID_PREFIX, Facts, facts_of
from feedback.importers.record import RowRefused
from feedback.log import EventConflict, EventLog, EventTooLarge, TopicReader
from ops.errors import CommandError
from ops.row_files import Row

_GROUP = 200
"""Rows that are made durable at once."""

_APPEND_S = 60.0


@dataclass(frozen=True)
class Dropped:
    row: int
    """Its number in the whole import, from 1."""
    where: str
    reason: str
    detail: str


@dataclass
class Account:
    """``rows == imported + already + len(dropped)``."""

    rows: int = 0
    imported: int = 0
    already: int = 0
    """Rows that an earlier import has put into the log."""
    votes: int = 0
    """Feedback that the imported rows gave: a row may give several."""
    dropped: list[Dropped] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        reasons = Counter(row.reason for row in self.dropped)
        return {
            "rows": self.rows,
            "imported": self.imported,
            "already": self.already,
            "dropped": len(self.dropped),
            "votes": self.votes,
            "reasons": dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
            "dropped_rows": [vars(row) for row in self.dropped],
        }


@dataclass(frozen=True)
class _Read:
    number: int
    where: str
    facts: Facts


def import_rows(
    log: EventLog, rows: Iterable[Row], *, format: str, project: str, clock: Callable[[], float] = time.time
) -> Account:
    """Append what the rows say. Raises `LogUnavailable`; what reading the rows raises comes once all before it is durable."""
    account = Account()
    known = _known(log)
    for group in _groups(_read(rows, format, project, account, clock)):
        new = []
        for read in group:
            if all(event.id in known for event in read.facts.feedback):
                account.already += 1
            else:
                new.append(read)
        _append(log, new, account)
    account.dropped.sort(key=lambda dropped: dropped.row)
    return account


def _read(rows: Iterable[Row], format: str, project: str, account: Account, clock: Callable[[], float]) -> Iterator[_Read]:
    """The rows that say something, each once."""
    first: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        account.rows = number
        try:
            if isinstance(row.value, RowRefused):
                raise row.value
            facts = facts_of(FORMATS[format](row.value), project, format, clock())
        except RowRefused as refusal:
            account.dropped.append(Dropped(number, row.where, refusal.reason, refusal.detail))
            continue
        earlier = first.setdefault(facts.digest, number)
        if earlier == number:
            yield _Read(number, row.where, facts)
        else:
            account.dropped.append(Dropped(number, row.where, "the row says the same as an earlier one", f"row {earlier}"))


def _groups(rows: Iterable[_Read]) -> Iterator[list[_Read]]:
    """Should the rows break off, those before come still."""
    group: list[_Read] = []
    broken: CommandError | None = None
    try:
        for row in rows:
            group.append(row)
            if len(group) == _GROUP:
                yield group
                group = []
    except CommandError as error:
        broken = error
    if group:
        yield group
    if broken is not None:
        raise broken


def _append(log: EventLog, group: list[_Read], account: Account) -> None:
    """A group at once; if one of its rows is refused, row by row, so that the others do not suffer for it."""
    try:
        log.append([event for read in group for event in read.facts.events], _APPEND_S)
    except (EventTooLarge, EventConflict) as error:
        if len(group) > 1:
            for read in group:
                _append(log, [read], account)
            return
        reason = "the row is too long" if isinstance(error, EventTooLarge) else "the log has other events under the row's ids"
        account.dropped.append(Dropped(group[0].number, group[0].where, reason, str(error)))
        return
    account.imported += len(group)
    account.votes += sum(len(read.facts.feedback) for read in group)


def _known(log: EventLog) -> set[str]:
    """Ids of the imported feedback that the log has, of any project: they differ by project."""
    known: set[str] = set()
    reader = TopicReader(log, "feedback")
    while records := reader.poll():
        known |= {r.event.id for r in records if r.event.id.startswith(ID_PREFIX)}
    return known
