"""Who has been erased, and which of the log's records that makes void."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from feedback.events import CompletionCreated, FeedbackAmended, FeedbackRetracted, FeedbackSet, UserErased
from feedback.log import Record

_Person = tuple[str, str]
"""Project and hash."""


class _Erasure(NamedTuple):
    data: UserErased
    time: float


class Erasures:
    """Folds `UserErased` events; a user may be erased more than once, and speak again after it."""

    def __init__(self) -> None:
        self._of: defaultdict[_Person, list[_Erasure]] = defaultdict(list)

    def add(self, record: Record) -> bool:
        """Take a record; True if it says that somebody is erased."""
        event = record.event
        if not isinstance(event.data, UserErased):
            return False
        self._of[event.project, event.data.user].append(_Erasure(event.data, event.time))
        return True

    def covers(self, record: Record) -> bool:
        """Whether this is a completion, or feedback, of somebody who was erased after it.

        After it by the log's order, or by its time: one that waited in an outbox is in no log yet when its writer is erased.
        """
        data, place = record.event.data, record.position
        if isinstance(data, CompletionCreated):
            user = data.user
        elif isinstance(data, FeedbackSet | FeedbackAmended | FeedbackRetracted):
            user = data.rater
        else:
            return False
        return any(
            place.offset < erasure.data.ends.get(place.topic, {}).get(place.partition, 0) or record.event.time <= erasure.time
            for erasure in self._of.get((record.event.project, user), ())
        )
