"""What was acknowledged, held against what a reader of the log finds.

Every event of a scenario judges one answer (its target) and bears a number that counts up for it: together they name it,
whatever id the log gave it. A retry that took effect a second time shows, and so does one that came too late.
"""

from __future__ import annotations

import threading
import time as clock
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from feedback.events import Event, FeedbackSet, Rating, Target, Topic
from feedback.join import Joiner
from feedback.log import EventLog, LogUnavailable, Record, TopicReader
from ops.chaos.scenario import Stuck, wait_until

_READ_S = 60.0


class Tally(NamedTuple):
    """Fields as in `ops.chaos.scenario.Outcome`."""

    acknowledged: int
    lost: int
    doubled: int
    reordered: int


def tally(acknowledged: Mapping[str, Collection[int]], read: Iterable[tuple[str, int]]) -> Tally:
    """``acknowledged``: numbers by target; ``read``: (target, number) in a reader's order, other targets' ignored."""
    times: dict[str, Counter[int]] = {target: Counter() for target in acknowledged}
    highest: dict[str, int] = {}
    reordered = 0
    for target, number in read:
        if target in times:
            if not times[target][number]:
                reordered += number < highest.get(target, number)
                highest[target] = max(number, highest.get(target, number))
            times[target][number] += 1
    return Tally(
        acknowledged=sum(len(set(numbers)) for numbers in acknowledged.values()),
        lost=sum(number not in times[target] for target, numbers in acknowledged.items() for number in set(numbers)),
        doubled=sum(count - 1 for counts in times.values() for count in counts.values() if count > 1),
        reordered=reordered,
    )


class Ledger:
    """Thread-safe."""

    def __init__(self) -> None:
        self._numbers: dict[str, list[int]] = defaultdict(list)
        self._lock = threading.Lock()
        self._total = 0

    def note(self, target: str, number: int) -> None:
        """It was acknowledged."""
        with self._lock:
            self._numbers[target].append(number)
            self._total += 1

    @property
    def total(self) -> int:
        return self._total

    def wait_for(self, total: int, seconds: float) -> float:
        """Until so many were acknowledged; how long it took. Raises `ops.chaos.scenario.Stuck`."""
        return wait_until(lambda: self.total >= total, f"{total} events are acknowledged", seconds)

    def check(self, records: Iterable[Record]) -> Tally:
        """``records`` as a reader of the feedback topic sees them."""
        return self.tally(name for record in records if (name := name_of(record.event)) is not None)

    def tally(self, read: Iterable[tuple[str, int]]) -> Tally:
        """``read``: target and number of events in a reader's order."""
        with self._lock:
            return tally(self._numbers, read)

    def check_log(self, log: EventLog) -> Tally:
        return self.check(everything(log, "feedback"))

    def standing(self, log: EventLog) -> list[str]:
        """What is wrong with the votes that stand in the end: one for each target, and it is the last acknowledged or later."""
        records = everything(log, "feedback")
        number = {record.event.id: name[1] for record in records if (name := name_of(record.event)) is not None}
        joiner = Joiner()
        joiner.extend(everything(log, "completions"))
        joiner.extend(records)
        votes = {vote.target.id: number[vote.feedback_id] for vote in joiner.votes() if vote.target.id in self._numbers}
        wrong = [target for target, numbers in self._numbers.items() if votes.get(target, -1) < max(numbers)]
        return [f"{len(wrong)} of {len(self._numbers)} standing votes are not the last acknowledged"] if wrong else []


def everything(log: EventLog, topic: Topic) -> list[Record]:
    """All records of a topic. A log that fails now is asked again, for a minute."""
    deadline = clock.monotonic() + _READ_S
    while True:
        try:
            return TopicReader(log, topic).everything()
        except LogUnavailable as error:
            if clock.monotonic() > deadline:
                raise Stuck(f"the log could not be read: {error}") from error


def name_of(event: Event) -> tuple[str, int] | None:
    """Target and number of a scenario's event; None for any other."""
    data = event.data
    if not isinstance(data, FeedbackSet) or data.client_sequence is None:
        return None
    return data.target.id, data.client_sequence


def numbered(target: str, number: int, time: float) -> Event:
    """A scenario's event, for a log; ``target`` is its key as well. ``time`` is in Unix seconds."""
    id = f"fb_{target}_{number}"
    data = FeedbackSet(
        feedback_id=id,
        target=Target(completion_ids=(target,)),
        rater="r1",
        judgement=Rating(value=1 if number % 2 else -1),
        client_sequence=number,
    )
    return Event(id=id, time=time, project="chaos", key=target, data=data)
