"""Watching a project's raters: who falls suddenly is paused, by a fact on the control topic that all readers follow.

What it knows it has from the log; as it may be killed and started anywhere, so may two of it run: a change that was decided
twice is in the log once.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b

import structlog

from feedback.events import CompletionCreated, CompletionText, Event, RaterChanged, Topic
from feedback.join import Joiner, Vote
from feedback.log import EventConflict, EventLog, Record, TopicReader
from feedback.raters.agreement import Level, alpha
from feedback.raters.fall import fall_of
from feedback.raters.labels import LABEL_KINDS, LabelKind, grouped, labels_of, units_of
from feedback.raters.standing import Standings, event_of
from feedback.raters.watch import pauses, watch
from ops import metrics

_logger = structlog.get_logger(__name__)

EVERY_S = 60.0

LEVELS: dict[LabelKind, Level] = {"rating": "nominal", "preference": "ordinal", "score": "interval"}
"""A tie lies between the two sides of a pair."""

_TOPICS: tuple[Topic, ...] = ("control", "completions", "feedback")
_NO_TEXT = CompletionText(messages=(), answer="")


class Raters:
    """A project's votes and its raters' standings, as of the last `refresh`. Keeps no texts."""

    def __init__(self, log: EventLog, project: str) -> None:
        self._log, self.project = log, project
        self._readers = [TopicReader(log, topic) for topic in _TOPICS]
        self._joiner = Joiner(project)
        self._salt = os.urandom(16)
        self.standings = Standings(project)
        self.read = 0
        """Records so far."""

    def refresh(self) -> None:
        """Read on. Raises `feedback.log.LogError`; what was read before it is kept."""
        for reader in self._readers:
            for record in reader.drain():
                self.read += 1
                self.standings.add(record)
                self._joiner.add(self._without_text(record))

    def votes(self) -> list[Vote]:
        """All standing votes, heard or not."""
        return self._joiner.votes()

    def _without_text(self, record: Record) -> Record:
        """Of texts only what tells the same ones: hashes that nobody can guess by, as their salt ends with this process."""
        data = record.event.data
        if not isinstance(data, CompletionCreated) or not data.text.answer or data.sealed:
            return record
        update = {
            "text": _NO_TEXT,
            "sampling": {},
            "prompt_hash": self._hash(*(part for message in data.text.messages for part in (message.role, message.content))),
            "answer_hash": self._hash(data.text.answer),
            "completion_tokens": data.completion_tokens or len(data.text.answer),
        }
        return record._replace(event=record.event.model_copy(update={"data": data.model_copy(update=update)}))

    def _hash(self, *parts: str) -> str:
        return blake2b("\0".join(parts).encode(), key=self._salt, digest_size=16).hexdigest()


class RaterWatch:
    """`tick` looks at the raters, every minute. Not thread-safe."""

    def __init__(self, log: EventLog, project: str, clock: Callable[[], float] = time.time) -> None:
        self._log, self._project, self._clock = log, project, clock
        self._raters = Raters(log, project)
        self._detect = lru_cache(maxsize=16_384)(fall_of)
        self._next = 0.0
        self._seen = -1

    def tick(self) -> list[Event]:
        """Read what is new, and pause who fell. Returns the appended events. Raises `feedback.log.LogError`.

        Within a minute of the last look nothing is done.
        """
        now = self._clock()
        if now < self._next:
            return []
        self._raters.refresh()
        appended = [] if self._raters.read == self._seen else self._look()
        self._seen, self._next = self._raters.read, now + EVERY_S
        return appended

    def _look(self) -> list[Event]:
        votes = self._raters.votes()
        watched = watch(votes, self._raters.standings, self._detect)
        if watched.withheld:
            _logger.warning("falls_withheld", raters=len(watched.withheld))
        appended = self._append(pauses(votes, self._raters.standings, watched))
        self._measure(votes, len(watched.withheld))
        return appended

    def _append(self, changes: Sequence[RaterChanged]) -> list[Event]:
        appended = []
        for change in changes:
            event = event_of(change, self._project, self._clock())
            try:
                self._log.append([event])
            except EventConflict:
                _logger.warning("rater_changed_already", event_id=event.id)  # by another watch or an operator: that holds
                continue
            appended.append(event)
            _logger.info("rater_paused", rater=change.rater, reason=change.reason)
        if changes:
            self._raters.refresh()
        return appended

    def _measure(self, votes: Sequence[Vote], withheld: int) -> None:
        project, standings = self._project, self._raters.standings
        heard = standings.heard(votes)
        people = {vote.rater for vote in votes if vote.source != "golden"}
        paused = sum(standings.of(project, rater).paused for rater in people)
        metrics.RATERS.labels(project, "paused").set(paused)
        metrics.RATERS.labels(project, "active").set(len(people) - paused)
        metrics.VOTES_IN_DOUBT.labels(project).set(sum(standings.of(project, vote.rater).doubts(vote) for vote in votes))
        metrics.FALLS_WITHHELD.labels(project).set(withheld)
        labels = grouped((label for label in labels_of(heard) if label.source != "golden"), lambda label: label.item.kind)
        for kind in LABEL_KINDS:
            agreed = alpha(units_of(labels.get(kind, [])), LEVELS[kind])
            metrics.AGREEMENT.labels(project, kind).set(math.nan if agreed is None else agreed)
