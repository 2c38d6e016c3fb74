"""What the log says about one rollout, as counts.

Within a batch the records of all partitions and topics are taken by (event time, event id); batches in the order they
come. What has counted stays counted: a changed or retracted vote does not take its evidence back, and a record that
arrives late does not replace an earlier one. Which vote counts therefore never depends on what it says, so every test
keeps its level. A rater has one vote, the first; a user one event per metric, the first. The tests are functions of
counts, so reading a log again gives the same evidence; only a rater whose votes reached different partitions out of
order may then count with another of their own votes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from feedback.events import CompletionCreated, Event, Exposure, FeedbackSet
from ops.evidence.duels import Duels, Vote
from ops.evidence.users import Firsts

Metric = Literal["thumbs_up", "thumbs_down", "error"]
METRICS: tuple[Metric, ...] = ("thumbs_up", "thumbs_down", "error")

Analysed = Literal["challenger", "control"]
ARMS: tuple[Analysed, ...] = ("challenger", "control")


class Fact(NamedTuple):
    """What an event says about a rollout; ``unit`` is the user it is about. No text."""

    time: float
    id: str
    rollout_id: str
    unit: str
    arm: Analysed | None = None
    """Assigned arm: the analysis is by intention to treat."""
    rho: float = 0.5
    """Logged probability of the challenger among the analysed arms."""
    coverage: float | None = None
    """Set for an exposure: coverage under which the unit was assigned."""
    crossed: bool = False
    """Served by another arm than the assigned one."""
    metric: Metric | None = None
    metric_arm: Analysed | None = None
    """The arm a metric's event is put down to: the assigned one, or in a duel the side that caused it."""
    vote: Vote | None = None
    left: Vote | None = None
    """The vote as the side shown first sees it."""


class Counts:
    """Counts of one rollout. Grows by `add`; everything else reads."""

    def __init__(self) -> None:
        self._arms: dict[str, Analysed] = {}
        self._at: dict[float, dict[Analysed, set[str]]] = {}
        self._crossed: set[str] = set()
        self._firsts: dict[Metric, dict[float, list[int]]] = {metric: {} for metric in METRICS}
        self._counted: dict[str, set[str]] = {metric: set() for metric in METRICS} | {"duel": set()}
        self._votes: list[Vote] = []
        self._left: list[Vote] = []

    def add(self, facts: Iterable[Fact]) -> None:
        """Fold one batch, by (time, id)."""
        for fact in sorted(facts, key=lambda fact: (fact.time, fact.id)):
            if fact.coverage is not None:
                self._expose(fact, fact.coverage)
            if fact.metric is not None and fact.metric_arm is not None and self._first(fact.metric, fact.unit):
                counts = self._firsts[fact.metric].setdefault(fact.rho, [0, 0])
                counts[ARMS.index(fact.metric_arm)] += 1
            if fact.vote is not None and fact.left is not None and self._first("duel", fact.unit):
                self._votes.append(fact.vote)
                self._left.append(fact.left)

    def _first(self, test: str, unit: str) -> bool:
        known = unit in self._counted[test]
        self._counted[test].add(unit)
        return not known

    def _expose(self, fact: Fact, coverage: float) -> None:
        if fact.arm is None:
            return
        self._arms.setdefault(fact.unit, fact.arm)
        self._at.setdefault(round(coverage, 9), {arm: set() for arm in ARMS})[fact.arm].add(fact.unit)
        if fact.crossed:
            self._crossed.add(fact.unit)

    @property
    def duels(self) -> Duels:
        """First votes, from the challenger's view."""
        return _duels(self._votes)

    @property
    def left(self) -> Duels:
        """The same votes from the view of the side shown first: position bias shows here."""
        return _duels(self._left)

    def firsts(self, metric: Metric) -> Firsts:
        return Firsts({rho: (counts[0], counts[1]) for rho, counts in self._firsts[metric].items()})

    def assigned(self) -> dict[Analysed, int]:
        """Exposed units by the arm they were first assigned."""
        arms = list(self._arms.values())
        return {arm: arms.count(arm) for arm in ARMS}

    def at(self, coverage: float) -> dict[Analysed, int]:
        """Units exposed while the coverage was this."""
        found = self._at.get(round(coverage, 9), {})
        return {arm: len(found.get(arm, ())) for arm in ARMS}

    @property
    def crossed(self) -> int:
        """Units that were served another arm than their own at least once."""
        return len(self._crossed)


def _duels(votes: list[Vote]) -> Duels:
    return Duels(votes.count("win"), votes.count("tie"), votes.count("loss"))


def fact_of(event: Event) -> Fact | None:
    """What an event says about a rollout, if anything."""
    if isinstance(event.data, CompletionCreated):
        return _of_completion(event, event.data)
    if isinstance(event.data, FeedbackSet) and event.data.source in ("end_user", "simulated"):
        return _of_duel(event, event.data) if event.data.judgement.kind == "preference" else _of_rating(event, event.data)
    return None  # annotators judge for the trainer: they are not the users whom the arms were drawn for


def challenger_of(rollout_id: str) -> str:
    """The adapter whose rollout this is (see `ops.deployment.rollout_of`)."""
    return rollout_id.removeprefix("ro-")


def _analysed(exposure: Exposure) -> tuple[Analysed | None, float, float]:
    """Assigned arm if it is analysed, rho, and coverage, from the logged probabilities."""
    challenger, control = exposure.propensities.get("challenger", 0.0), exposure.propensities.get("control", 0.0)
    if exposure.assigned == "champion" or not challenger or not control:
        return None, 0.5, 0.0
    return exposure.assigned, challenger / (challenger + control), challenger + control


def _of_completion(event: Event, data: CompletionCreated) -> Fact | None:
    exposure = data.exposure
    arm, rho, coverage = _analysed(exposure)
    if exposure.rollout_id is None or arm is None:
        return None
    fact = Fact(event.time, event.id, exposure.rollout_id, data.user, arm, rho, coverage)
    if data.outcome == "error":
        fact = fact._replace(metric="error", metric_arm=arm)
    if data.comparison_id is None:
        return fact._replace(crossed=exposure.arm != arm)
    if data.outcome == "error":  # a unit in a duel meets both arms, equally often
        side: Analysed = "challenger" if exposure.adapter == challenger_of(exposure.rollout_id) else "control"
        fact = fact._replace(metric_arm=side, rho=0.5)
    return fact


def _of_rating(event: Event, data: FeedbackSet) -> Fact | None:
    if len(data.exposures) != 1 or data.judgement.kind != "rating":
        return None
    exposure = data.exposures[0]
    arm, rho, _ = _analysed(exposure)
    own = exposure.arm == arm or exposure.fallback is not None  # one side of a duel says nothing of the assigned arm
    if exposure.rollout_id is None or arm is None or not own:
        return None
    metric: Metric = "thumbs_up" if data.judgement.value == 1 else "thumbs_down"
    return Fact(event.time, event.id, exposure.rollout_id, data.rater, rho=rho, metric=metric, metric_arm=arm)


def _of_duel(event: Event, data: FeedbackSet) -> Fact | None:
    if len(data.exposures) != 2 or data.judgement.kind != "preference":
        return None
    a, b = data.exposures
    if a.rollout_id is None or a.rollout_id != b.rollout_id:
        return None
    challenger = challenger_of(a.rollout_id)
    if (a.adapter == challenger) == (b.adapter == challenger):
        return None
    votes: dict[str, Vote] = {"a": "win", "b": "loss"}
    left = votes.get(data.judgement.value, "tie")
    opposite: dict[Vote, Vote] = {"win": "loss", "tie": "tie", "loss": "win"}
    vote = left if a.adapter == challenger else opposite[left]
    return Fact(event.time, event.id, a.rollout_id, data.rater, vote=vote, left=left)
