from __future__ import annotations

import pytest

from feedback.events import FeedbackSet
from feedback.join import Joiner
from feedback.log import Position, Record
from ops.bench.chat import ALONE, BESIDE, Chatted, figures
from ops.bench.load import Quantiles, Result
from ops.bench.votes import votes_of


def chatted(total: float, first: float, cpus: float, failed: int = 0) -> Chatted:
    total_ms, first_ms = Quantiles(total, total, total), Quantiles(first, first, first)
    return Chatted(Result(10, failed, 10 - failed, 1.0, 10.0, 100.0, first_ms, total_ms, {}), cpus)


def test_times_are_compared_within_a_round_and_told_as_medians():
    rounds = [
        {ALONE: chatted(100, 40, 0.0), BESIDE: chatted(150, 80, 0.9)},
        {ALONE: chatted(200, 50, 0.0), BESIDE: chatted(500, 60, 0.5, failed=1)},
        {ALONE: chatted(50, 20, 0.0), BESIDE: chatted(80, 30, 0.7)},
    ]
    whole, first, cpus, failed = figures(rounds, quiet=1.8)
    assert (whole.value, whole.aim, whole.met) == (pytest.approx(1.6), 2.0, True)  # of 1.5, 2.5 and 1.6
    assert whole.note == "150 ms, idle 100 ms"
    assert first.value == pytest.approx(1.5)  # of 2, 1.2 and 1.5
    assert (cpus.value, cpus.note) == (0.7, "1.80 while nobody chats")
    assert (failed.value, failed.met) == (1, False)


def test_votes_that_no_model_made_are_whole_votes_of_a_crowd():
    events = votes_of(50, "default", people=10)
    joiner = Joiner()
    joiner.extend(Record(Position(event.topic, 0, n), event) for n, event in enumerate(events))
    votes = joiner.votes()
    assert len(votes) == sum(isinstance(event.data, FeedbackSet) for event in events) == 50
    assert len({vote.rater for vote in votes}) == 10
    assert {"a", "b"} <= {vote.judgement.value for vote in votes}
    assert events == votes_of(50, "default", people=10) != votes_of(50, "default", people=10, seed=1)
