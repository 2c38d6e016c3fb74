"""Simulated people's votes on answers made in this process are in the log as the gateway would have written them."""

from __future__ import annotations

from vote_log import settings_for

from feedback.events import BASE, Preference
from feedback.join import Vote
from ops.domain.people import crowd
from ops.open_log import open_log_of
from ops.settings import SamplingSettings
from trainer.bench.voters import Shares, Voters
from trainer.inbox import Inbox


def votes_of(tmp_path, tiny_folder, tiny, champion: str, count: int = 60) -> tuple[Vote, ...]:
    settings = settings_for(tmp_path, tiny_folder).model_copy(update={"sampling": SamplingSettings(max_tokens=4)})
    with open_log_of(settings) as log:
        voters = Voters(crowd(10, seed=1), log, settings, 1, Shares())
        voters.vote(tiny, champion, "ad-1" if champion != BASE else BASE, count)
        inbox = Inbox(log, settings.project)
        inbox.refresh()
        assert voters.votes == count
        return inbox.batch({}).votes


def test_all_votes_join_and_seven_of_ten_are_pairs(tmp_path, tiny_folder, tiny):
    votes = votes_of(tmp_path, tiny_folder, tiny, BASE, count=120)
    assert len(votes) == 120
    assert len({vote.rater for vote in votes}) == 10
    pairs = [vote for vote in votes if isinstance(vote.judgement, Preference)]
    assert 0.6 < len(pairs) / len(votes) < 0.9  # some thumbs are not bothered with
    assert {vote.source for vote in votes} == {"simulated"}
    assert all(completion.exposure.adapter == BASE for vote in votes for completion in vote.completions)


def test_a_quarter_of_the_pairs_are_the_champion_against_the_base_on_either_side(tmp_path, tiny_folder, tiny):
    tiny.add("served")
    votes = votes_of(tmp_path, tiny_folder, tiny, "served", count=120)
    sides = [tuple(c.exposure.adapter for c in vote.completions) for vote in votes if len(vote.completions) == 2]
    mixed = [each for each in sides if len(set(each)) == 2]
    assert 0.1 < len(mixed) / len(sides) < 0.4
    assert set(mixed) == {("ad-1", BASE), (BASE, "ad-1")}
    assert set(sides) - set(mixed) == {("ad-1", "ad-1")}


def test_the_same_seed_gives_the_same_votes(tmp_path, tiny_folder, tiny):
    first, again = (votes_of(tmp_path / name, tiny_folder, tiny, BASE, count=20) for name in ("one", "two"))
    assert [(v.feedback_id, v.rater, v.judgement, v.time) for v in first] == [
        (v.feedback_id, v.rater, v.judgement, v.time) for v in again
    ]
