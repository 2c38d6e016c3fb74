"""The annotators' desk: hands out tasks with their texts, and takes answers into the log, each once and for good."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from feedback.events import Event, Exposure, FeedbackSet, Flag, Judgement, Rating, Target
from feedback.ids import annotator_hash
from feedback.log import EventConflict, EventLog
from feedback.receipts import Receipt, ReceiptError, Receipts
from ops import metrics
from serving.errors import Conflict, Forbidden, InvalidRequest, NotFound, as_api_error
from serving.keys import Caller
from serving.labeling.answers import (
    LabelAnswer,
    LabelConversation,
    LabelFlag,
    LabelSkip,
    TurnRating,
    check_fits,
    flags_of,
    is_right,
    judgement_of,
)
from serving.labeling.pauses import Pauses
from serving.labeling.places import Found, conversation_of, read_places
from serving.labeling.plan import Live
from serving.labeling.queue import AlreadyAnswered, EntryTestFailed, LeaseExpired, Progress, Task, TaskQueue
from serving.labeling.streams import Item, Stream, Streams

_REFILL_S = 10.0
"""An empty stream looks for new answers in the log so often, at most."""


@dataclass(frozen=True)
class Handed:
    """A task as its rater sees it: which items are golden is not told."""

    task: Task
    stream: Stream
    item: Item
    shown: tuple[Found, ...]
    """In order of display."""


class Desk:
    """Blocks while it works: call it in a thread. Raises `LogError` too."""

    def __init__(
        self,
        streams: Streams,
        queue: TaskQueue,
        log: EventLog,
        receipts: Receipts,
        user_secret: bytes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.streams = streams
        self._queue = queue
        self._log = log
        self._receipts = receipts
        self._user_secret = user_secret
        self._clock = clock
        self._pauses = Pauses(log)
        self._filled: dict[str, float] = {}
        self._filling = threading.Lock()

    def rater(self, caller: Caller, project: str) -> str:
        """The annotator in the project; the same as for feedback without a task."""
        return annotator_hash(self._user_secret, project, caller.key_id or "")

    def stream_of(self, caller: Caller, id: str) -> Stream:
        """A stream by its id, or by its name where the caller's projects have one of it. Raises `NotFound`."""
        known = [stream for stream in self.streams.list(caller.projects) if id in (stream.id, stream.name)]
        if not known:
            raise NotFound(f"There is no stream {id[:100]!r} for this key: ask for its id.", param="stream")
        if len(known) > 1:
            raise InvalidRequest(f"'stream' {id[:100]!r} is a name in several of your projects: send its id.", param="stream")
        return known[0]

    def passed(self, caller: Caller, stream: Stream) -> bool | None:
        """How the caller's entry test went; None while it goes on."""
        return self._queue.passed(stream, self.rater(caller, stream.project))

    def next(self, caller: Caller, id: str) -> Handed | None:
        """The caller's task: the open one, else a new one; None when there is nothing to do. Raises `ApiError`."""
        stream = self.stream_of(caller, id)
        rater = self.rater(caller, stream.project)
        if self._pauses.holds(stream.project, rater):
            text = "Your judgements have changed suddenly: there are no tasks for this key until an operator has looked at them."
            raise Forbidden(text, code="rater_paused")
        while True:
            try:
                found = self._queue.next(stream, rater, caller.key_id or "")
                if found is None and self._refill(stream):
                    found = self._queue.next(stream, rater, caller.key_id or "")
            except EntryTestFailed as error:
                text = f"The entry test of {stream.name!r} was not passed: this key gets no tasks of it."
                raise Forbidden(text, code="entry_test_failed") from error
            if found is None:
                return None
            task, item = found
            shown = self._shown(task, item)
            if shown is not None:
                return Handed(task, stream, item, shown)
            self.streams.mark_gone(item.id)
            self._queue.drop(task)

    def answer(self, caller: Caller, task_id: str, answer: LabelAnswer) -> tuple[str, ...]:
        """Take the answer to a task, once; the ids of what the log has of it, on disk. Raises `ApiError`."""
        task, stream = self._task(caller, task_id)
        item = self._queue.item(task.item)
        shown = self._shown(task, item)
        if shown is None:
            self.streams.mark_gone(item.id)
            self._queue.drop(task)
            raise Conflict("What this task is about has been erased: ask for the next task.", code="task_gone")
        check_fits(answer, stream.plan, len(shown), live=not item.places)
        self._facts(answer, task, stream, item, shown, caller)  # what is wrong with it is told before it counts as an answer
        try:
            claimed = self._queue.claim(task, answer.digest(), answer.decision_ms)
        except AlreadyAnswered as error:
            raise Conflict("This task has been answered otherwise: ask for the next one.", code="task_answered") from error
        except LeaseExpired as error:
            raise Conflict("This task was not answered in time: ask for the next one.", code="lease_expired") from error
        facts = self._facts(answer, claimed, stream, item, shown, caller)
        if claimed.done is None:
            self._keep(facts, claimed, answer, item)
        return tuple(event.id for event in facts)

    def check_may_chat(self, caller: Caller, project: str, conversation: str | None) -> None:
        """An annotator may chat in the conversation of an open task of theirs, and nowhere else. Raises `Forbidden`."""
        try:
            task = self._queue.find(conversation or "", self.rater(caller, project))
            if task.done is None and self._clock() < task.lease_until and not self._queue.item(task.item).places:
                return
        except LookupError:
            pass
        raise Forbidden("A key of role 'annotator' chats in a task's conversation only: send the task's id as 'conversation'.")

    def _task(self, caller: Caller, id: str) -> tuple[Task, Stream]:
        for project in caller.projects:
            try:
                task = self._queue.find(id, self.rater(caller, project))
            except LookupError:
                continue
            return task, self.streams.find(task.stream)
        text = f"There is no task {id[:100]!r} of this key; it may have been too late: GET /v1/label/next."
        raise NotFound(text, param="task", code="unknown_task")

    def _refill(self, stream: Stream) -> bool:
        """Draw from the log, if that is the stream's way and it has not just been done; whether there is something new."""
        source, now = stream.plan.source, self._clock()
        if isinstance(source, Live) or source.rule not in ("newest", "share") or stream.closed is not None:
            return False
        with self._filling:
            if now - self._filled.get(stream.id, -_REFILL_S) < _REFILL_S:
                return False
            self._filled[stream.id] = now
        return self.streams.draw(stream, self._log) > 0

    def _shown(self, task: Task, item: Item) -> tuple[Found, ...] | None:
        answers = read_places(self._log, item.places)
        return None if answers is None else tuple(answers[place] for place in display_order(len(answers), task.coin))

    def _facts(
        self, answer: LabelAnswer, task: Task, stream: Stream, item: Item, shown: Sequence[Found], caller: Caller
    ) -> list[Event]:
        took = task.server_ms or 0.0
        decision_ms = took if answer.decision_ms is None else min(answer.decision_ms, took)
        note = _Note(task, stream.project, caller.key_id or "", self._clock())
        match answer:
            case LabelSkip():
                return []
            case LabelFlag():
                said = flags_of(answer, decision_ms)
                return [note.event(f"{which}", [shown[which]], task.coin, judgement) for which, judgement in said]
            case LabelConversation():
                return self._conversation(answer, note, task, stream, decision_ms)
            case _:
                return [note.event("", shown, task.coin, judgement_of(answer, stream.plan, decision_ms))]

    def _conversation(
        self, answer: LabelConversation, note: _Note, task: Task, stream: Stream, decision_ms: float
    ) -> list[Event]:
        receipts = [self._turn(turn, place, task, stream) for place, turn in enumerate(answer.judgements)]
        judged = {receipt.target.id for receipt in receipts}
        if len(judged) < len(receipts):
            raise InvalidRequest("'judgements' has two of one answer: send one for each.", param="judgements")
        assert isinstance(stream.plan.source, Live)
        if len(receipts) < stream.plan.source.turns:
            text = f"The conversation has {len(receipts)} rated answers: have at least {stream.plan.source.turns}."
            raise InvalidRequest(text, param="judgements", code="conversation_too_short")
        had = conversation_of(self._log, stream.project, task.id, task.handed_out)
        if left := [one.place.completion_id for one in had if one.place.completion_id not in judged]:
            raise InvalidRequest(f"'judgements' lacks the answer {left[0]!r}: rate every answer.", param="judgements")
        events = []
        for turn, receipt in zip(answer.judgements, receipts, strict=True):
            said = {"comment": turn.comment, "decision_ms": decision_ms}
            judgements: list[Judgement] = [Rating(value=turn.value, tags=turn.tags, **said)]
            if turn.harms:
                judgements.append(Flag(harms=turn.harms, decision_ms=decision_ms))
            events += [
                note.fact(f"{receipt.target.id} {judgement.kind}", receipt.target, receipt.exposures, task.id, judgement)
                for judgement in judgements
            ]
        return events

    def _turn(self, turn: TurnRating, place: int, task: Task, stream: Stream) -> Receipt:
        param = f"judgements[{place}].receipt"
        try:
            receipt = self._receipts.open(turn.receipt)
        except ReceiptError as error:
            told = as_api_error(error)
            raise type(told)(told.message.replace("'receipt'", f"'{param}'"), param=param, code=told.code) from error
        if (receipt.project, receipt.conversation) != (stream.project, task.id):
            raise InvalidRequest(f"'{param}' is not of this task's conversation.", param=param)
        if len(receipt.target.completion_ids) > 1:
            raise InvalidRequest(f"'{param}' is of several answers: ask for one at a time (n: 1).", param=param)
        return receipt

    def _keep(self, facts: list[Event], task: Task, answer: LabelAnswer, item: Item) -> None:
        """Returns once all is on disk and the task is done."""
        progress = progress_of(answer, item, task.coin)
        try:
            if facts:
                self._log.append(facts)
        except EventConflict as error:  # an earlier answer got that far, and its gateway died before it could tell
            self._queue.finish(task, progress)
            raise Conflict("This task has been answered otherwise: ask for the next one.", code="task_answered") from error
        self._queue.finish(task, progress)
        for event in facts:
            metrics.FEEDBACK.labels(event.data.judgement.kind, event.data.source).inc()  # type: ignore[union-attr]


@dataclass(frozen=True)
class _Note:
    """What all facts of one answer have in common."""

    task: Task
    project: str
    key_id: str
    time: float

    def event(self, part: str, shown: Sequence[Found], coin: float, judgement: Judgement) -> Event:
        answers = [found.completion for found in shown]
        target = Target(
            completion_ids=tuple(answer.completion_id for answer in answers),
            comparison_id=answers[0].comparison_id if len(answers) > 1 else None,
        )
        tossed = {"coin": coin} if len(answers) > 1 else {}
        exposures = tuple(answer.exposure.model_copy(update=tossed) for answer in answers)
        return self.fact(part, target, exposures, answers[0].conversation, judgement)

    def fact(self, part: str, target: Target, exposures: tuple[Exposure, ...], conversation: str, judgement: Judgement) -> Event:
        """``part`` names it among the task's. Its id follows from both, so that a repeated request has one effect."""
        id = "fb_" + hashlib.sha256(f"{self.task.id}\0{part}".encode()).hexdigest()[:32]
        data = FeedbackSet(
            feedback_id=id,
            target=target,
            rater=self.task.rater,
            judgement=judgement,
            exposures=exposures,
            source="annotator",
            key_id=self.key_id,
            stream=self.task.stream,
            task=self.task.id,
        )
        return Event(id=id, time=self.time, project=self.project, key=conversation, data=data)


def display_order(answers: int, coin: float) -> tuple[int, ...]:
    """Which of an item's answers is shown k-th: one of all orders, each as likely, by a ``coin`` uniform on [0, 1)."""
    left, order = list(range(answers)), []
    while left:
        coin *= len(left)
        order.append(left.pop(int(coin)))
        coin %= 1
    return tuple(order)


def progress_of(answer: LabelAnswer, item: Item, coin: float) -> Progress:
    order = display_order(len(item.places), coin)
    correct = is_right(answer, item.right_answer, order) if item.golden else None
    match answer:
        case LabelSkip():
            return Progress("skipped", answer.reason)
        case LabelFlag() if answer.harms:
            return Progress("harmful", None, correct)
        case LabelConversation() if any(turn.harms for turn in answer.judgements):
            return Progress("harmful", None, correct)
        case _:
            return Progress("answered", None, correct)
