from __future__ import annotations

from vote_log import events

from feedback.log import TopicReader
from feedback.raters.standing import Standing, Standings, event_of, pause, reinstate
from feedback.sqlite_log import SqliteLog
from trainer.inbox import Inbox


def test_votes_in_doubt_are_not_learnt_from_and_are_news_once_they_count_again(tmp_path):
    log = SqliteLog(tmp_path / "log.db")
    log.append(events(40, raters=4))  # one a second from 10 on
    inbox, standings = Inbox(log, "default"), Standings("default")
    inbox.refresh()
    assert len(inbox.batch({}).votes) == 40

    log.append([event_of(pause(Standing(), "rater-1", "fell", 29.0, "watch", {}), "default", 50.0)])
    inbox.refresh()
    doubted = {vote.feedback_id for vote in inbox.batch({}).votes if vote.rater == "rater-1"}
    assert doubted == {f"fb-0-{n}" for n in (1, 5, 9, 13, 17)}  # until 29
    assert len(inbox.batch({}).votes) == 35
    watermark = inbox.batch({}).offsets
    assert inbox.batch(watermark).new == frozenset()

    for record in TopicReader(log, "control").drain():
        standings.add(record)
    log.append([event_of(reinstate(standings.of("default", "rater-1"), "fine", 60.0, drop=False), "default", 60.0)])
    inbox.refresh()
    assert inbox.batch(watermark).new == {f"fb-0-{n}" for n in (21, 25, 29, 33, 37)}
    assert len(inbox.batch(watermark).votes) == 40
    again = Inbox(log, "default")
    again.refresh()
    assert again.batch(watermark) == inbox.batch(watermark)
    log.close()
