from __future__ import annotations

from pathlib import Path

from feedback.events import CompletionCreated, CompletionText, Event, Exposure, Message
from feedback.retention import forget
from feedback.sqlite_log import SqliteLog
from serving.lookup import AnswerIndex


def answer(name: str, time: float) -> Event:
    text = CompletionText(messages=(Message(role="user", content="hi"),), answer="hello")
    exposure = Exposure(completion_id=name, adapter="base")
    data = CompletionCreated(completion_id=name, conversation="c", user="u", text=text, exposure=exposure)
    return Event(id=name, time=time, project="default", key="c", data=data)


async def test_an_index_that_nobody_asked_for_longer_than_events_are_kept_finds_answers_again(tmp_path: Path):
    log = SqliteLog(tmp_path / "log.db")
    index = AnswerIndex(log, receipt_days=30)
    log.append([answer("first", 100.0)])
    assert await index.find("first") is not None
    log.append([answer("second", 200.0), answer("third", 900.0)])
    assert forget(log, "completions", before=500.0) == 2
    assert (await index.find("third")).user == "u"
    log.close()
