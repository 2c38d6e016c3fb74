"""Feedback whose completion has not come: after a day it is noted on the dead-letter topic, and still joins if it comes.

Whoever reads completions and feedback may keep watch, several at once: a letter's id follows from the feedback's place in
the log, so it is kept once. No text is held, only ids: about 130 bytes a completion.
"""

from __future__ import annotations

from contextlib import suppress
from math import inf

from feedback.codec import no_target
from feedback.events import CompletionCreated, DeadLetter, FeedbackSet
from feedback.log import EventConflict, EventLog, Record


class Orphans:
    """Takes the records of the completions and feedback topics in any order and number; of one project."""

    def __init__(self, project: str) -> None:
        self._project = project
        self._here: set[str] = set()
        self._waiting: dict[str, tuple[Record, FeedbackSet]] = {}
        self._noted: set[str] = set()

    def add(self, record: Record) -> None:
        """Letters that were written before may be given as well: they are not written again."""
        data = record.event.data
        if isinstance(data, DeadLetter):
            self._noted.add(record.event.id)
        if record.event.project != self._project:
            return
        if isinstance(data, CompletionCreated):
            self._here.add(data.completion_id)
        elif isinstance(data, FeedbackSet) and not self._joined(data):
            known = self._waiting.get(record.event.id)
            if known is None or record.position < known[0].position:
                self._waiting[record.event.id] = record, data

    def waiting(self, now: float, hours: float, kept_hours: float = inf) -> list[Record]:
        """Feedback older than ``hours`` without its completions, in log order. ``now`` is in Unix seconds.

        That older than ``kept_hours`` is left alone: its letter may be what retention has deleted.
        """
        self._waiting = {id: each for id, each in self._waiting.items() if not self._joined(each[1])}
        late = [record for record, _ in self._waiting.values() if hours * 3600 < now - record.event.time < kept_hours * 3600]
        return sorted(late, key=lambda record: record.position)

    def bury(self, log: EventLog, now: float, hours: float, kept_hours: float = inf) -> int:
        """Note what `waiting` gives on the dead-letter topic. Returns how many are new there. Raises `feedback.log.LogError`."""
        letters = [no_target(record, now) for record in self.waiting(now, hours, kept_hours)]
        new = [letter for letter in letters if letter.id not in self._noted]
        if new:
            with suppress(EventConflict):  # a letter of an older form stands already
                log.append(new)
            self._noted |= {letter.id for letter in new}
        return len(new)

    def _joined(self, feedback: FeedbackSet) -> bool:
        return self._here.issuperset(feedback.target.completion_ids)
