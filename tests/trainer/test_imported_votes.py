"""A data set's votes in the trainer's inbox: lessons like any others, and prompts that crowd out nobody's."""

from __future__ import annotations

from pathlib import Path

from vote_log import completion

from feedback.events import Message
from feedback.sqlite_log import SqliteLog
from ops.importing import import_rows
from ops.row_files import Row
from trainer.examples import examples_of
from trainer.inbox import Inbox
from trainer.prompts import prompts_of


def pair(number: int) -> Row:
    question = f"\n\nHuman: imported {number}?\n\nAssistant:"
    return Row(f"f:{number}", {"chosen": f"{question} thanks, yes", "rejected": f"{question} ugh, no"})


def asked(*names: str) -> tuple[tuple[Message, ...], ...]:
    return tuple((Message(role="user", content=name),) for name in names)


def test_imported_votes_are_new_lessons_and_their_prompts_stand_before_peoples_own(tmp_path: Path):
    log = SqliteLog(tmp_path / "log.db")
    log.append([completion("a", "own?", "because")])
    inbox = Inbox(log, "default")
    inbox.refresh()
    import_rows(log, [pair(1)], format="hh-rlhf", project="default")
    inbox.refresh()
    batch = inbox.batch({})
    (lesson,) = examples_of(batch.votes)
    assert batch.new == {lesson.feedback_id}
    assert lesson.answers["ab".index(lesson.label)] == "thanks, yes"
    assert batch.prompts == asked("imported 1?", "own?")
    log.close()


def test_imported_prompts_take_only_the_room_that_peoples_own_leave_and_the_newest_stay():
    own, imported = asked("o1", "o2"), asked("i1", "i2", "i3")
    assert prompts_of(own, imported, most=5) == imported + own
    assert prompts_of(own, imported, most=3) == asked("i3") + own
    assert prompts_of(own, imported, most=2) == own
    assert prompts_of((), imported, most=5) == imported
