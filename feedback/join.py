"""The join: feedback meets the completions it is about, in whatever order the two arrive.

The result depends on the log's records alone, not on the order in which they were read: every fact keeps its place in
the log, and each slot (target, rater, kind, name) is folded in log order. A new reader rebuilds the same votes by replay.
Every completion read is kept, rated or not: memory grows with the log.

What somebody said before they were erased is as if never said. Of their answers the text is gone, read before or after:
votes of others on them remain, with ``sealed`` set and the text empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from feedback.erasure import Erasures
from feedback.events import (
    CompletionCreated,
    Exposure,
    FeedbackAmended,
    FeedbackKind,
    FeedbackRetracted,
    FeedbackSet,
    Judgement,
    Source,
    Target,
)
from feedback.log import Position, Record
from feedback.seal import erased


@dataclass(frozen=True)
class Vote:
    """One person's standing judgement, joined to what it is about."""

    feedback_id: str
    time: float
    """Unix seconds at which the feedback was taken."""
    project: str
    key: str
    """Partition key: the conversation."""
    rater: str
    source: Source
    judgement: Judgement
    target: Target
    completions: tuple[CompletionCreated, ...]
    """In the target's order: for a comparison (a, b), a being the one shown first."""
    exposures: tuple[Exposure, ...]
    """As the receipt had them, in the same order; the completions' own if it had none."""
    positions: tuple[Position, ...]
    """Places in the log: the feedback's, its amendments', then the completions'."""
    key_id: str = ""
    stream: str = ""
    task: str = ""


class Counts(NamedTuple):
    """Distinct facts, whatever the number of copies read.

    ``feedback_read == joined + waiting`` and ``joined == votes + superseded + excluded``. Amendments are no facts of their own.
    """

    completions: int
    feedback_read: int
    """``feedback.set`` facts."""
    joined: int
    """Those whose completions are all there, whether or not they became a vote."""
    waiting: int
    """Those with a completion missing."""
    retractions: int
    """``feedback.retracted`` facts."""
    superseded: int
    """Joined feedback that a later one of the same rater and kind replaced or took back."""
    excluded: int
    """Standing joined feedback about a completion that did not end well: never a label."""
    votes: int


class _Place(NamedTuple):
    """Order of a slot's facts. They share a key, so a partition: the offset decides."""

    partition: int
    offset: int
    event_id: str


class _Shown(NamedTuple):
    place: _Place
    record: Record
    data: CompletionCreated


class _Said(NamedTuple):
    place: _Place
    record: Record
    data: FeedbackSet | FeedbackAmended | FeedbackRetracted


class _Standing(NamedTuple):
    """What holds in a slot after all of its facts."""

    said: _Said
    feedback: FeedbackSet
    """With the amendments in it."""
    amended: tuple[Position, ...]


class _Slot(NamedTuple):
    project: str
    target: Target
    rater: str
    kind: FeedbackKind
    name: str


_K = TypeVar("_K")
_F = TypeVar("_F", _Shown, _Said)


class Joiner:
    """Takes the records of the completions and feedback topics in any order and number; ignores all others.

    Last writer wins in each slot: facts are taken in log order, but one whose client sequence is lower than the
    highest before it is late and loses. Copies (the same event id, or the same feedback id in a slot) count once, at
    their first place. Records of other projects are ignored if a ``project`` is given.
    """

    def __init__(self, project: str | None = None) -> None:
        self._project = project
        self._completions: dict[tuple[str, str], _Shown] = {}
        self._slots: dict[_Slot, dict[str, _Said]] = {}
        self._first_places: dict[str, _Place] = {}
        self._erasures = Erasures()
        self._unswept = False
        """Somebody was erased of whom something may still be here."""

    def add(self, record: Record) -> None:
        event = record.event
        if self._project is not None and event.project != self._project:
            return
        place = _Place(record.position.partition, record.position.offset, event.id)
        data = event.data
        if self._erasures.add(record):
            self._unswept = True
        elif isinstance(data, CompletionCreated):
            _keep_first(self._completions, (event.project, data.completion_id), self._without_erased(_Shown(place, record, data)))
        elif isinstance(data, FeedbackSet | FeedbackAmended | FeedbackRetracted):
            said = data.judgement if isinstance(data, FeedbackSet) else data
            slot = _Slot(event.project, data.target, data.rater, said.kind, said.name)
            if not self._erasures.covers(record):
                _keep_first(self._slots.setdefault(slot, {}), event.id, _Said(place, record, data))
            self._first_places[event.id] = min(place, self._first_places.get(event.id, place))

    def extend(self, records: Iterable[Record]) -> None:
        for record in records:
            self.add(record)

    def votes(self) -> list[Vote]:
        """Every standing vote on completions that ended well, by time of the feedback, then by its id."""
        self._sweep()
        votes = []
        for slot, facts in self._slots.items():
            standing = _standing(self._distinct(facts))
            completions = self._completions_of(slot)
            if standing is not None and _all_ended_well(completions):
                votes.append(_vote(slot, standing, completions))
        return sorted(votes, key=lambda vote: (vote.time, vote.feedback_id, vote.positions[0]))

    @property
    def counts(self) -> Counts:
        self._sweep()
        read = joined = retractions = superseded = excluded = votes = 0
        for slot, facts in self._slots.items():
            distinct = self._distinct(facts)
            sets = sum(isinstance(said.data, FeedbackSet) for said in distinct)
            read += sets
            retractions += sum(isinstance(said.data, FeedbackRetracted) for said in distinct)
            completions = self._completions_of(slot)
            if not completions:
                continue
            joined += sets
            stands = int(_standing(distinct) is not None)
            superseded += sets - stands
            votes += stands * _all_ended_well(completions)
            excluded += stands * (not _all_ended_well(completions))
        return Counts(len(self._completions), read, joined, read - joined, retractions, superseded, excluded, votes)

    def _sweep(self) -> None:
        """Let go of what the erased had said before anything is made of it."""
        if not self._unswept:
            return
        self._unswept = False
        self._completions = {name: self._without_erased(shown) for name, shown in self._completions.items()}
        self._slots = {
            slot: {id: said for id, said in facts.items() if not self._erasures.covers(said.record)}
            for slot, facts in self._slots.items()
        }

    def _without_erased(self, shown: _Shown) -> _Shown:
        """An answer, without its text if whom it was given to is erased."""
        if not self._erasures.covers(shown.record):
            return shown
        record = Record(shown.record.position, erased(shown.record.event))
        assert isinstance(record.event.data, CompletionCreated)
        return _Shown(shown.place, record, record.event.data)

    def _completions_of(self, slot: _Slot) -> list[_Shown]:
        """The completions of a slot's target, in its order; none unless all are there."""
        found = [self._completions.get((slot.project, name)) for name in slot.target.completion_ids]
        return [shown for shown in found if shown is not None] if None not in found else []

    def _distinct(self, facts: dict[str, _Said]) -> list[_Said]:
        """A slot's facts in log order, each once."""
        distinct: dict[tuple[str, str], _Said] = {}
        for said in sorted(facts.values(), key=lambda said: said.place):
            if said.place == self._first_places[said.place.event_id]:
                distinct.setdefault((said.data.type, said.data.feedback_id), said)
        return list(distinct.values())


def _keep_first(facts: dict[_K, _F], key: _K, fact: _F) -> None:
    known = facts.get(key)
    if known is None or fact.place < known.place:
        facts[key] = fact


def _standing(facts: Sequence[_Said]) -> _Standing | None:
    """The judgement that holds after all facts, given in log order; None if there is none."""
    standing: _Standing | None = None
    highest: int | None = None
    for said in facts:
        sequence = said.data.client_sequence
        if sequence is not None and highest is not None and sequence < highest:
            continue
        highest = highest if sequence is None else sequence
        if isinstance(said.data, FeedbackSet):
            standing = _Standing(said, said.data, ())
        elif isinstance(said.data, FeedbackRetracted):
            standing = None
        elif standing is not None:
            standing = _amended(standing, said, said.data)
    return standing


def _amended(standing: _Standing, said: _Said, amendment: FeedbackAmended) -> _Standing:
    """The judgement with the changes in it; as it was if they do not make one (the API has refused such)."""
    merged = standing.feedback.model_dump() | {"judgement": standing.feedback.judgement.model_dump() | amendment.changes}
    try:
        feedback = FeedbackSet.model_validate(merged)
    except ValidationError:
        return standing
    return _Standing(standing.said, feedback, (*standing.amended, said.record.position))


def _all_ended_well(completions: Sequence[_Shown]) -> bool:
    return bool(completions) and all(shown.data.outcome == "ok" for shown in completions)


def _vote(slot: _Slot, standing: _Standing, completions: Sequence[_Shown]) -> Vote:
    event, feedback = standing.said.record.event, standing.feedback
    return Vote(
        feedback_id=feedback.feedback_id,
        time=event.time,
        project=slot.project,
        key=event.key,
        rater=slot.rater,
        source=feedback.source,
        judgement=feedback.judgement,
        target=slot.target,
        completions=tuple(shown.data for shown in completions),
        exposures=feedback.exposures or tuple(shown.data.exposure for shown in completions),
        positions=(standing.said.record.position, *standing.amended, *(shown.record.position for shown in completions)),
        key_id=feedback.key_id,
        stream=feedback.stream,
        task=feedback.task,
    )
