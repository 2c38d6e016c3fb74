"""Clocks that are an hour wrong: the log's order, a retry's identity, receipts and standing votes must not care."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

from feedback.events import CompletionCreated, CompletionText, Event, Exposure, Message, Target
from feedback.ids import uuid7
from feedback.log import Position, Record
from feedback.orphans import Orphans
from feedback.receipts import Receipt, ReceiptError, Receipts
from feedback.sqlite_log import SqliteLog
from ops.chaos.ledger import Ledger, numbered
from ops.chaos.scenario import Outcome, Size

_HOUR_S = 3600.0
_ERRORS_S = (0.0, _HOUR_S, -_HOUR_S, 0.0, -_HOUR_S, _HOUR_S)
"""How wrong the clock is at one event after another."""

_DAY_S = 86_400.0
_ORPHAN_HOURS = 24.0


def hour_wrong(folder: Path, size: Size) -> Outcome:
    """The writers' clocks jump by an hour to and fro; what was sent is sent again by a client with another clock."""
    log, ledger = SqliteLog(folder / "clock.db"), Ledger()
    now, events = time.time(), 6000 if size == "full" else 300
    targets = [f"clock-{n}" for n in range(6)]
    log.append([answered(target, now) for target in targets])
    problems = _receipts(now) + _ids(now)
    for number, error_s in zip(range(events), itertools.cycle(_ERRORS_S), strict=False):
        target = targets[number % len(targets)]
        (place,) = log.append([numbered(target, number, now + error_s)])
        ledger.note(target, number)
        if log.append([numbered(target, number, now - error_s)]) != [place]:
            problems.append(f"event {number}, sent again with another time, was taken for another")
    problems += _orphans(now)
    outcome = Outcome(events, *ledger.check_log(log), problems=(*problems, *ledger.standing(log)))
    log.close()
    return outcome


def _receipts(now: float) -> list[str]:
    """Receipts of a gateway whose clock is wrong, opened by one whose clock is right, and the other way round."""
    problems = []
    for sealing_s, opening_s in itertools.product((-_HOUR_S, 0.0, _HOUR_S), repeat=2):
        issued = now + sealing_s
        receipt = Receipt(
            project="chaos",
            target=Target(completion_ids=("c1",)),
            exposures=(),
            user="u1",
            conversation="c1",
            issued=issued,
            expires=issued + _DAY_S,
        )
        token = Receipts([b"secret"]).seal(receipt)
        try:
            Receipts([b"secret"], clock=lambda at=now + opening_s: at).open(token)  # type: ignore[misc]
        except ReceiptError as error:
            problems.append(f"a receipt sealed {sealing_s:+.0f} s and opened {opening_s:+.0f} s off is refused: {error.message}")
    return problems


def _orphans(now: float) -> list[str]:
    """Feedback stamped an hour too early waits for its answer nearly as long as any."""
    orphans = Orphans("chaos")
    event = numbered("nobody's", 0, now - _HOUR_S)
    orphans.add(Record(Position("feedback", 0, 0), event))
    waits = not orphans.waiting(now + _DAY_S - 2 * _HOUR_S, _ORPHAN_HOURS) and orphans.waiting(now + _DAY_S, _ORPHAN_HOURS)
    return [] if waits else ["feedback without its answer was given up on too early, or never"]


def _ids(now: float) -> list[str]:
    ids = [uuid7(int((now + error_s) * 1000)) for error_s in _ERRORS_S for _ in range(1000)]
    return [] if len(set(ids)) == len(ids) else ["an id was given twice"]


def answered(target: str, now: float) -> Event:
    """The answer that a target's events are about; ``now`` is in Unix seconds."""
    data = CompletionCreated(
        completion_id=target,
        conversation=target,
        user="u1",
        text=CompletionText(messages=(Message(role="user", content="Hello"),), answer="Hello."),
        exposure=Exposure(completion_id=target, adapter="base"),
    )
    return Event(id=f"e-{target}", time=now, project="chaos", key=target, data=data)
