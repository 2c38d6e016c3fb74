"""Who has fallen: raters whose judgements of known or shared items were right, and are no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from feedback.events import RaterChanged
from feedback.join import Vote
from feedback.raters.fall import Fall, fall_of
from feedback.raters.golden import golden_truths
from feedback.raters.kappa import majorities
from feedback.raters.labels import decided, grouped, labels_of
from feedback.raters.standing import Standings, pause
from feedback.raters.weights import ramps

AT_ONCE = 1 / 3
"""Where more of the watched raters fall than this (and more than `A_FEW`), it is the items or the answers that changed."""

A_FEW = 2

Detector = Callable[[Sequence[bool]], Fall | None]


class Outcome(NamedTuple):
    """Whether a rater was right on an item: as its golden truth says, or the majority of the others."""

    rater: str
    time: float
    right: bool
    golden: bool


class Watched(NamedTuple):
    """``falls`` to pause for; ``withheld`` are falls of so many at once that nobody is paused for them."""

    falls: dict[str, tuple[Fall, Sequence[Outcome]]]
    withheld: tuple[str, ...]


def outcomes_of(votes: Sequence[Vote], heard: Sequence[Vote]) -> list[Outcome]:
    """Of every rating and decided pair of ``votes`` that can be told right or wrong, in order of time.

    The majority is of the votes that are ``heard``, newcomers weighing less, so that many fresh accounts outvote nobody.
    """
    labels = decided(labels_of(votes))
    truths = golden_truths(labels)
    spoken = [label for label in decided(labels_of(heard)) if label.source != "golden"]
    others = majorities(spoken, ramps(heard))
    outcomes = []
    for label in labels:
        truth = truths.get(label.item, others.get((label.item, label.rater)))
        if label.source != "golden" and truth is not None:
            outcomes.append(Outcome(label.rater, label.time, label.value == truth, label.item in truths))
    return sorted(outcomes, key=lambda outcome: outcome.time)


def watch(votes: Sequence[Vote], standings: Standings, detect: Detector = fall_of) -> Watched:
    """Falls among one project's raters who are not paused, since they were last reinstated."""
    found: dict[str, tuple[Fall, Sequence[Outcome]]] = {}
    by_rater: Mapping[tuple[str, str], list[Outcome]] = _watched(votes, standings)
    for (_, rater), outcomes in by_rater.items():
        fall = detect(tuple(outcome.right for outcome in outcomes))
        if fall is not None:
            found[rater] = fall, outcomes
    if len(found) > max(A_FEW, AT_ONCE * len(by_rater)):
        return Watched({}, tuple(found))
    return Watched(found, ())


def _watched(votes: Sequence[Vote], standings: Standings) -> dict[tuple[str, str], list[Outcome]]:
    project = votes[0].project if votes else ""
    kept = [
        outcome
        for outcome in outcomes_of(votes, standings.heard(votes))
        if not (standing := standings.of(project, outcome.rater)).paused and outcome.time > standing.watched_from
    ]
    return grouped(kept, lambda outcome: (project, outcome.rater))


def pauses(votes: Sequence[Vote], standings: Standings, watched: Watched) -> list[RaterChanged]:
    """What is to be said of the falls on the control topic."""
    project = votes[0].project if votes else ""
    return [
        pause(standings.of(project, rater), rater, _reason(fall, outcomes), _since(fall, outcomes), "watch", _evidence(fall))
        for rater, (fall, outcomes) in sorted(watched.falls.items())
    ]


def _since(fall: Fall, outcomes: Sequence[Outcome]) -> float:
    """The last outcome of before: what came after it may be of after the fall."""
    return outcomes[fall.start - 1].time if fall.start else 0.0


def _reason(fall: Fall, outcomes: Iterable[Outcome]) -> str:
    golden = sum(outcome.golden for outcome in list(outcomes)[fall.start : fall.alarm + 1])
    after, before = fall.after, fall.before
    record = f"{before.hits} of {before.n} before" if before.n else "none before"
    return f"right on {after.hits} of {after.n} items ({golden} golden, the others by the majority), and on {record}"


def _evidence(fall: Fall) -> dict[str, float]:
    return {
        "evidence": fall.evidence,
        "before_right": fall.before.hits,
        "before": fall.before.n,
        "after_right": fall.after.hits,
        "after": fall.after.n,
    }
