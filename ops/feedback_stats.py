"""What the log holds of feedback, counted: every distinct fact once, whatever the number of copies."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from feedback.events import DeadLetter, Event, FeedbackAmended, FeedbackSet, Rating, Unrecognized
from feedback.join import Joiner, Vote
from feedback.log import EventLog, TopicReader


class FeedbackStats:
    """Folds a project's records; `report` is what they come to. Feedback is counted as it was given, votes as they stand."""

    def __init__(self, project: str) -> None:
        self._project = project
        self._joiner = Joiner(project)
        self._seen: set[str] = set()
        self._kinds, self._sources, self._days = (Counter[str]() for _ in range(3))
        self._letters, self._others = Counter[str](), Counter[str]()
        self._raters: set[str] = set()

    def read(self, log: EventLog) -> None:
        """Everything up to the log's end. Raises `feedback.log.LogError`."""
        for topic in ("completions", "feedback", "dead-letter"):
            reader = TopicReader(log, topic)
            while records := reader.poll():
                for record in records:
                    self._joiner.add(record)
                    if topic != "completions":
                        self._count(record.event, topic)

    def report(self) -> dict[str, Any]:
        """JSON-able. ``join_rate`` is null while nothing was said; days are UTC."""
        counts = self._joiner.counts
        votes = self._joiner.votes()
        return {
            "project": self._project,
            **counts._asdict(),
            "join_rate": counts.joined / counts.feedback_read if counts.feedback_read else None,
            "amendments": self._others["amended"],
            "unrecognized": self._others["unrecognized"],
            "raters": len(self._raters),
            "by_kind": dict(sorted(self._kinds.items())),
            "by_source": dict(sorted(self._sources.items())),
            "by_day": dict(sorted(self._days.items())),
            "thumbs_by_adapter": thumbs_by_adapter(votes),
            "dead_letters": dict(sorted(self._letters.items())),
        }

    def _count(self, event: Event, topic: str) -> None:
        data = event.data
        if event.id in self._seen:
            return
        self._seen.add(event.id)
        if isinstance(data, DeadLetter) and topic == "dead-letter" and event.project in ("", self._project):
            self._letters[data.reason.partition(":")[0]] += 1  # bytes that nobody could read are of no project
        if event.project != self._project:
            return
        if isinstance(data, FeedbackSet):
            self._kinds[data.judgement.kind] += 1
            self._sources[data.source] += 1
            self._days[datetime.fromtimestamp(event.time, UTC).date().isoformat()] += 1
            self._raters.add(data.rater)
        elif isinstance(data, FeedbackAmended):
            self._others["amended"] += 1
        elif isinstance(data, Unrecognized):
            self._others["unrecognized"] += 1


def thumbs_by_adapter(votes: list[Vote]) -> dict[str, dict[str, int]]:
    """Standing thumbs, up and down, of the adapter that answered."""
    found: dict[str, dict[str, int]] = {}
    for vote in votes:
        if isinstance(vote.judgement, Rating):
            thumbs = found.setdefault(vote.exposures[0].adapter, {"up": 0, "down": 0})
            thumbs["up" if vote.judgement.value > 0 else "down"] += 1
    return dict(sorted(found.items()))
