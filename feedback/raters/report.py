"""All that is measured of each rater, as one value a rater."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from feedback.join import Vote
from feedback.raters.bias import length_bias, position_bias
from feedback.raters.contradiction import Contradictions, contradictions
from feedback.raters.flips import flip_probabilities, flips_of, said_of
from feedback.raters.golden import golden_accuracy, golden_truths
from feedback.raters.kappa import WithMajority, majorities, with_majority
from feedback.raters.labels import grouped, labels_of
from feedback.raters.share import Share
from feedback.raters.standing import Standing, Standings
from feedback.raters.timing import DecisionTimes, decision_times
from feedback.raters.weights import ramps, reliability


@dataclass(frozen=True)
class RaterReport:
    rater: str
    standing: Standing
    votes: int
    """Standing votes of every kind."""
    in_doubt: int
    """Of these, votes that do not count for now."""
    dropped: int
    """And votes that do not count for ever."""
    first: float
    last: float
    """Unix times of the first and the last vote."""
    times: DecisionTimes
    skipped: Share
    """Of the tasks that were handed out; none without tasks."""
    golden: Share
    majority: WithMajority
    position: Share
    """Decided pairs that went to the side shown first."""
    longer: Share
    """Decided pairs that went to the longer answer."""
    contradictions: Contradictions
    flip: float
    """epsilon: how often they say the opposite of what is so, by all that is known (see `feedback.raters.flips`)."""
    doubt: float | None
    """P(epsilon > 1/2) among all raters (see `feedback.raters.population`); None for who has judged nothing that tells."""
    weight: float
    """Of a full weight: ramp times reliability (see `feedback.raters.weights`), before any cap; 0 while paused is not in it."""


def rater_reports(
    votes: Sequence[Vote], standings: Standings, skipped: Mapping[str, Share] | None = None
) -> dict[str, RaterReport]:
    """Of one project's raters, by rater hash: all that have a standing vote. What they are held against are votes that are heard.

    ``skipped`` is by rater, of those who were handed out tasks.
    """
    heard = standings.heard(votes)
    labels = labels_of(votes)
    truths = golden_truths(labels)
    spoken = [label for label in labels_of(heard) if label.source != "golden"]
    trust = ramps(heard)
    others = majorities(spoken, trust)
    flips = flip_probabilities(said_of(spoken), {item: float(value > 0) for item, value in truths.items()})
    people = flips_of(heard)
    by_rater = grouped((label for label in labels if label.source != "golden"), lambda label: label.rater)
    reports = {}
    for rater, own in sorted(grouped((v for v in votes if v.source != "golden"), lambda vote: vote.rater).items()):
        standing, said = standings.of(own[0].project, rater), by_rater.get(rater, [])
        reports[rater] = RaterReport(
            rater=rater,
            standing=standing,
            votes=len(own),
            in_doubt=sum(standing.doubts(vote) and not standing.drops(vote) for vote in own),
            dropped=sum(map(standing.drops, own)),
            first=min(vote.time for vote in own),
            last=max(vote.time for vote in own),
            times=decision_times(vote.judgement.decision_ms for vote in own),
            skipped=(skipped or {}).get(rater, Share()),
            golden=golden_accuracy(said, truths),
            majority=with_majority(said, others),
            position=position_bias(own),
            longer=length_bias(own),
            contradictions=contradictions(said),
            flip=flips.of(rater),
            doubt=people.doubts.get(rater),
            weight=trust.get(rater, 0.0) * reliability(flips.of(rater)),
        )
    return reports
