from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import log
from random import Random

from scipy.stats import beta
from streams import Stream

from feedback.events import CompletionCreated, Event, FeedbackRetracted, FeedbackSet, Preference
from ops.assignment import assign
from ops.deployment import Deployment, rollout_of
from ops.evidence.counts import Counts, Fact, fact_of
from ops.evidence.duels import Duels, log_above
from ops.evidence.users import Firsts

NEW = "p-v1-00000000"
RUNNING = Deployment("p", challenger=NEW, coverage=0.5, salt="s", rollout_id=rollout_of(NEW), duels=True, state="CANARY")
USERS = {arm: [u for u in (f"u{i}" for i in range(400)) if assign(RUNNING, u).arm == arm] for arm in ("challenger", "control")}
OUTSIDE = next(u for u in (f"u{i}" for i in range(400)) if assign(RUNNING, u).arm == "champion")
ONE, OTHER = USERS["challenger"][0], USERS["control"][0]


def counted(*batches: list[Event]) -> Counts:
    counts = Counts()
    for batch in batches:
        counts.add(fact for event in batch if (fact := fact_of(event)) is not None)
    return counts


def test_a_vote_is_the_challengers_win_on_whichever_side_it_was_shown():
    stream = Stream(1)
    events = [stream.duel(RUNNING, user, prefers=1.0) for user in USERS["challenger"][:20]]
    values = {batch[-1].data.judgement.value for batch in events}
    assert values == {"a", "b"}
    assert counted(*events).duels == Duels(20, 0, 0)
    lost = [stream.duel(RUNNING, user, prefers=0.0) for user in USERS["control"][:10]]
    assert counted(*events, *lost).duels == Duels(20, 0, 10)


def test_the_side_shown_first_is_counted_apart():
    events = [Stream(1).duel(RUNNING, user, prefers=0.5) for user in USERS["control"][:30]]
    counts = counted(*events)
    assert counts.left.wins == sum(batch[-1].data.judgement.value == "a" for batch in events)
    assert counts.left.n == counts.duels.n == 30


def test_tie_and_both_bad_are_half_a_vote_for_each():
    stream = Stream(1)
    events = [stream.duel(RUNNING, user, prefers=0.5, ties=1.0) for user in USERS["control"][:20]]
    assert {batch[-1].data.judgement.value for batch in events} == {"tie", "both_bad"}
    assert counted(*events).duels == Duels(0, 20, 0)


def test_only_a_raters_first_vote_counts_and_a_retraction_takes_nothing_back():
    stream = Stream(1)
    first, second = stream.duel(RUNNING, ONE, prefers=1.0), stream.duel(RUNNING, ONE, prefers=0.0)
    said = first[-1].data
    undo = FeedbackRetracted(feedback_id=said.feedback_id, target=said.target, rater=ONE, kind="preference")
    retraction = Event(id="undo", time=stream.now, project="p", key="c", data=undo)
    assert counted(first, [retraction], second).duels == Duels(1, 0, 0)
    assert counted([*second, *first]).duels == Duels(1, 0, 0)  # within a batch the earlier event is the first
    assert counted(second, first).duels == Duels(0, 0, 1)  # across batches the one that arrived first


def test_votes_of_other_rollouts_of_annotators_and_on_equal_sides_do_not_count():
    stream = Stream(1)
    votes = [
        stream.duel(replace(RUNNING, rollout_id="ro-x"), ONE, prefers=1.0)[-1],
        stream.duel(replace(RUNNING, rollout_id=None), ONE, prefers=1.0)[-1],
        stream.duel(replace(RUNNING, champion=NEW), ONE, prefers=1.0)[-1],
    ]
    annotated = stream.duel(RUNNING, ONE, prefers=1.0)[-1]
    votes.append(annotated.model_copy(update={"data": annotated.data.model_copy(update={"source": "annotator"})}))
    assert counted(votes).duels == Duels()


def test_a_thumb_counts_for_the_assigned_arm_and_once_a_user_and_metric():
    stream = Stream(1)
    counts = counted(
        stream.chat(RUNNING, ONE, thumb=1),
        stream.chat(RUNNING, ONE, thumb=1),
        stream.chat(RUNNING, ONE, thumb=-1),
        stream.chat(RUNNING, OTHER, thumb=-1),
        stream.chat(RUNNING, OUTSIDE, thumb=-1),
        stream.chat(RUNNING, USERS["challenger"][1], thumb=-1, fallback=True),  # by intention to treat
    )
    assert counts.firsts("thumbs_up") == Firsts({0.5: (1, 0)})
    assert counts.firsts("thumbs_down") == Firsts({0.5: (2, 1)})
    assert counts.crossed == 1


def test_rho_is_the_logged_probability_among_the_analysed_arms():
    event = Stream(1).chat(RUNNING, ONE, thumb=1)[-1]
    exposure = event.data.exposures[0].model_copy(update={"propensities": {"challenger": 0.1, "control": 0.3, "champion": 0.6}})
    uneven = event.model_copy(update={"data": event.data.model_copy(update={"exposures": (exposure,)})})
    assert counted([uneven]).firsts("thumbs_up").by_rho == {0.25: (1, 0)}


def test_a_thumb_on_the_other_side_of_a_duel_says_nothing_of_the_assigned_arm():
    stream = Stream(1)
    chat, duel = stream.chat(RUNNING, OTHER, thumb=-1)[-1], stream.duel(RUNNING, OTHER, prefers=0.5)
    exposures = [e.data.exposure for e in duel if isinstance(e.data, CompletionCreated)]
    thumbs = [
        chat.model_copy(update={"id": f"t{i}", "data": chat.data.model_copy(update={"exposures": (exposure,)})})
        for i, exposure in enumerate(exposures)
        if exposure.arm == "challenger"
    ]
    assert len(thumbs) == 1
    assert counted(thumbs).firsts("thumbs_down") == Firsts({})


def test_an_error_counts_for_the_arm_or_in_a_duel_for_the_side_that_failed():
    stream = Stream(1)
    chats = [stream.chat(RUNNING, ONE, outcome="error"), stream.chat(RUNNING, USERS["control"][1], outcome="timeout")]
    assert counted(*chats).firsts("error") == Firsts({0.5: (1, 0)})
    duel = stream.duel(RUNNING, OTHER, prefers=0.5, outcome="error")  # OTHER is in control; the challenger's side failed
    assert counted(*chats, duel).firsts("error") == Firsts({0.5: (2, 0)})


def test_users_are_counted_by_assigned_arm_and_by_the_coverage_they_met():
    stream, wider = Stream(1), replace(RUNNING, coverage=1.0)
    counts = counted(
        stream.chat(RUNNING, ONE),
        stream.chat(RUNNING, ONE),
        stream.duel(RUNNING, OTHER, prefers=0.5),
        stream.chat(RUNNING, OUTSIDE),
    )
    assert counts.assigned() == counts.at(0.5) == {"challenger": 1, "control": 1}
    assert counts.at(1.0) == {"challenger": 0, "control": 0}
    counts.add(fact for event in stream.chat(wider, ONE) if (fact := fact_of(event)))
    assert counts.at(1.0) == {"challenger": 1, "control": 0}
    assert counts.assigned() == {"challenger": 1, "control": 1}


def test_order_and_batches_do_not_matter_when_each_rater_votes_once():
    stream = Stream(1)
    events = [e for user in USERS["challenger"][:30] for e in stream.duel(RUNNING, user, prefers=0.6)]
    events += [e for user in USERS["control"][:30] for e in stream.chat(RUNNING, user, thumb=1)]
    whole, shuffled = counted(events), list(events)
    Random(0).shuffle(shuffled)
    parts = counted(*[shuffled[i : i + 7] for i in range(0, len(shuffled), 7)])
    assert (parts.duels, parts.assigned(), parts.firsts("thumbs_up")) == (
        whole.duels,
        whole.assigned(),
        whole.firsts("thumbs_up"),
    )


def test_heavy_voters_with_a_taste_of_their_own_decide_nothing_by_voting_often():
    """A sixth of the raters casts nearly all votes, each always for the same adapter; on the whole the adapters are equal."""
    rng, runs, hits, evidence = Random(5), 400, 0, cache(log_above)
    for _ in range(runs):
        tastes = [rng.choice(["win", "loss"]) for _ in range(60)]
        votes = [(i, tastes[i]) for i in range(60)] + [(i, tastes[i]) for i in range(10) for _ in range(30)]
        rng.shuffle(votes)
        counts, crossed = Counts(), False
        for n, (rater, vote) in enumerate(votes):
            counts.add([Fact(float(n), str(n), "ro-x", f"r{rater}", vote=vote, left="tie")])
            crossed = crossed or evidence(counts.duels) >= log(20)
        assert counts.duels.n == 60
        hits += crossed
    assert float(beta.ppf(0.95, hits + 1, runs - hits)) <= 0.05


def test_an_event_without_a_rollout_says_nothing():
    stream = Stream(1)
    plain = Deployment.initial("p")
    assert [fact_of(event) for event in stream.chat(plain, "u", thumb=1)] == [None, None]
    vote = stream.duel(RUNNING, ONE, prefers=1.0)[-1]
    bare = FeedbackSet(feedback_id="f", target=vote.data.target, rater=ONE, judgement=Preference(value="a"))
    assert fact_of(vote.model_copy(update={"data": bare})) is None
