"""What the trainer knows of the log: votes, questions that people asked, the champion. Rebuilt by replay at every start.

Nothing here is kept over a restart, so nothing can be counted twice: which votes are new is told by the offsets of the last
commit alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from feedback.erasure import Erasures
from feedback.events import CompletionCreated, RolloutChanged, Topic
from feedback.join import Joiner, Vote
from feedback.log import EventLog, Record, TopicReader
from feedback.orphans import Orphans
from feedback.raters.standing import Standings
from ops import metrics
from ops.deployment import Deployment
from trainer.examples import Prompt
from trainer.prompts import Prompts

PlainOffsets = dict[str, dict[int, int]]
"""Next offset to read, by topic and partition."""

_TOPICS: tuple[Topic, ...] = ("completions", "feedback", "control")


@dataclass(frozen=True)
class Batch:
    """A view of the log up to ``offsets``. ``new`` are the feedback ids of votes that the last commit did not know."""

    votes: tuple[Vote, ...]
    new: frozenset[str]
    prompts: tuple[Prompt, ...]
    champion: str
    offsets: PlainOffsets
    people: frozenset[str] = frozenset()
    """Hashes of all whose words are in here: raters, and whom the answers and prompts were of."""


class Inbox:
    """Reads a project's topics from their start and folds them."""

    def __init__(self, log: EventLog, project: str) -> None:
        self._log = log
        self.readers = [TopicReader(log, topic) for topic in _TOPICS]
        self._joiner = Joiner(project)
        self._project = project
        self._deployment = Deployment.initial(project)
        self._prompts = Prompts()
        self._erasures = Erasures()
        self._standings = Standings(project)
        self._votes: list[Vote] | None = None
        self._orphans = Orphans(project)
        self._until: PlainOffsets | None = None
        self._held_back: list[Record] = []

    def refresh(self, until: PlainOffsets | None = None) -> bool:
        """Read on, to the log's end or up to the offsets ``until``; True when there was anything. Raises `feedback.log.LogError`.

        What lies beyond ``until`` is as if it were not there yet, and counts from the next call without on.
        """
        waiting, self._held_back, self._until = self._held_back, [], until
        found = [self._fold(record) for record in waiting]
        for reader in self.readers:
            found += [self._fold(record) for record in reader.drain()]
        self._report()
        return any(found)

    def reaches(self, offsets: PlainOffsets) -> bool:
        """Whether all below ``offsets`` has been read: if not, it is another log's, or a log that has lost its end."""
        read = {reader.topic: reader.offsets for reader in self.readers}
        return all(read[topic].get(p, 0) >= end for topic, ends in offsets.items() for p, end in ends.items())

    def _fold(self, record: Record) -> bool:
        place = record.position
        if self._until is not None and place.offset >= self._until.get(place.topic, {}).get(place.partition, 0):
            self._held_back.append(record)
            return False
        self._votes = None
        self._joiner.add(record)
        self._orphans.add(record)
        data = record.event.data
        if record.event.project != self._project:
            return True
        if isinstance(data, CompletionCreated):
            if not self._erasures.covers(record):
                self._prompts.add(data, record)
        elif self._erasures.add(record):
            self._prompts.forget(self._erasures.covers)
        elif isinstance(data, RolloutChanged):
            self._deployment = self._deployment.after(data, record.event.time)
        else:
            self._standings.add(record)
        return True

    def batch(self, watermark: Mapping[str, Mapping[int, int]]) -> Batch:
        """All there is now; new is a vote of which any part lies at or beyond the watermark, missing partitions being at 0.

        Votes of paused raters that are in doubt are not there; those that count again since a reinstatement are new.
        """
        if self._votes is None:
            self._votes = self._standings.heard(self._joiner.votes())
        prompts = self._prompts.newest()
        return Batch(
            votes=tuple(self._votes),
            new=new_votes(self._votes, watermark),
            prompts=tuple(prompt for prompt, _ in prompts),
            champion=self._deployment.champion,
            offsets=self._until or {reader.topic: dict(sorted(reader.offsets.items())) for reader in self.readers},
            people=_people(self._votes, [asked.record for asked in prompts]),
        )

    def bury(self, now: float, hours: float, kept_hours: float = math.inf) -> int:
        """Note on the dead-letter topic, once, feedback that has waited for its completion for longer than ``hours``.

        It still counts should the completion come. Returns how many are new there. Raises `feedback.log.LogError`.
        """
        return self._orphans.bury(self._log, now, hours, kept_hours)

    def _report(self) -> None:
        counts = self._joiner.counts
        metrics.JOINED.set(counts.joined)
        metrics.JOIN_RATE.set(counts.joined / counts.feedback_read if counts.feedback_read else 1.0)


def _people(votes: Sequence[Vote], prompts: Sequence[Record]) -> frozenset[str]:
    asked = {record.event.data.user for record in prompts}
    return frozenset(asked.union(*({vote.rater, *(c.user for c in vote.completions)} for vote in votes)))


def new_votes(votes: Sequence[Vote], watermark: Mapping[str, Mapping[int, int]]) -> frozenset[str]:
    """Feedback ids of the votes whose feedback, or a completion of theirs, was not below the watermark."""
    return frozenset(
        vote.feedback_id
        for vote in votes
        if any(place.offset >= watermark.get(place.topic, {}).get(place.partition, 0) for place in vote.positions)
    )
