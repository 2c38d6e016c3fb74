"""Who is heard: every rater's standing, folded from the control topic, and the votes that count by it.

A paused rater's votes since their fall are in doubt, and count nothing until an operator has reviewed them: reinstating either
lets them count again, as new ones, or drops them for ever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from feedback.events import Event, RaterChanged
from feedback.join import Vote
from feedback.log import Position, Record


class NoSuchChange(ValueError):
    """A rater cannot be paused twice, nor reinstated who is not paused."""


@dataclass(frozen=True)
class Standing:
    """After one change; ``change`` None is before the first."""

    change: RaterChanged | None = None
    time: float = 0.0
    """Unix time of the change."""
    position: Position | None = None

    @property
    def paused(self) -> bool:
        return self.change is not None and self.change.state == "paused"

    @property
    def watched_from(self) -> float:
        """Outcomes up to this Unix time have been reviewed: a fall among them is no news."""
        return self.time if self.change is not None and not self.paused else float("-inf")

    def doubts(self, vote: Vote) -> bool:
        """Whether a vote counts nothing for now."""
        return self.change is not None and self.paused and vote.time > self.change.since

    def drops(self, vote: Vote) -> bool:
        """Whether a vote counts nothing for ever."""
        return self.change is not None and any(after < vote.time <= until for after, until in self.change.dropped)

    def heard(self, vote: Vote) -> Vote | None:
        """The vote if it counts. One that does again has the place of the reinstatement among its places: it is news."""
        if self.change is None or self.position is None:
            return vote
        if self.doubts(vote) or self.drops(vote):
            return None
        was_in_doubt = self.change.since < vote.time <= self.time
        return replace(vote, positions=(*vote.positions, self.position)) if was_in_doubt else vote


_NEW = Standing()


class Standings:
    """Of a project's raters, or of those of all projects. Takes records of the control topic in any order and number."""

    def __init__(self, project: str | None = None) -> None:
        self._project = project
        self._by_rater: dict[tuple[str, str], Standing] = {}

    def add(self, record: Record) -> bool:
        """Fold a record; True if it changed anything. The highest ``change`` of a rater holds."""
        event = record.event
        if not isinstance(event.data, RaterChanged) or self._project not in (None, event.project):
            return False
        known = self.of(event.project, event.data.rater).change
        if known is not None and known.change >= event.data.change:
            return False
        self._by_rater[event.project, event.data.rater] = Standing(event.data, event.time, record.position)
        return True

    def of(self, project: str, rater: str) -> Standing:
        return self._by_rater.get((project, rater), _NEW)

    def changed(self, project: str) -> Mapping[str, Standing]:
        """Those raters of a project who have ever been paused."""
        return {rater: standing for (of, rater), standing in self._by_rater.items() if of == project}

    def heard(self, votes: Iterable[Vote]) -> list[Vote]:
        """The votes that count, in their order."""
        heard = (self.of(vote.project, vote.rater).heard(vote) for vote in votes)
        return [vote for vote in heard if vote is not None]


def pause(
    standing: Standing, rater: str, reason: str, since: float, by: Literal["watch", "operator"], evidence: Mapping[str, float]
) -> RaterChanged:
    """Raises `NoSuchChange` for who is paused already."""
    if standing.paused:
        raise NoSuchChange("is paused already")
    number, dropped = (standing.change.change, standing.change.dropped) if standing.change else (0, ())
    return RaterChanged(
        rater=rater,
        state="paused",
        change=number + 1,
        by=by,
        reason=reason,
        since=since,
        dropped=dropped,
        evidence=dict(evidence),
    )


def reinstate(standing: Standing, reason: str, now: float, *, drop: bool) -> RaterChanged:
    """The change that ends a pause at Unix time ``now``; ``drop`` the votes in doubt for ever. Raises `NoSuchChange`."""
    if standing.change is None or not standing.paused:
        raise NoSuchChange("is not paused")
    more = ((standing.change.since, now),) if drop else ()
    return RaterChanged(
        rater=standing.change.rater,
        state="active",
        change=standing.change.change + 1,
        by="operator",
        reason=reason,
        since=standing.change.since,
        dropped=(*standing.change.dropped, *more),
    )


def event_of(change: RaterChanged, project: str, now: float) -> Event:
    """Its id follows from the rater and the number of the change: decided twice, it is in the log once."""
    who = hashlib.sha256(f"{project}\0{change.rater}".encode()).hexdigest()[:32]
    return Event(id=f"rater-{who}-{change.change}", time=now, project=project, key=f"{project}:{change.rater}", data=change)
