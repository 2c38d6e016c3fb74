"""Annotators whom a sudden fall has paused: they get no tasks until an operator has looked at their work."""

from __future__ import annotations

import threading

from feedback.log import EventLog, TopicReader
from feedback.raters.standing import Standings


class Pauses:
    """What the control topic says, as of now. Blocks; raises `LogError`."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._reader: TopicReader | None = None
        self._standings = Standings()
        self._reading = threading.Lock()

    def holds(self, project: str, rater: str) -> bool:
        """Whether the rater is paused."""
        with self._reading:
            self._reader = self._reader or TopicReader(self._log, "control")
            for record in self._reader.drain():
                self._standings.add(record)
            return self._standings.of(project, rater).paused
