"""Answers by id, for feedback that comes with a key instead of a receipt: the latest of them, in memory and from the log."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict

from feedback.events import CompletionCreated, Event, Target
from feedback.log import EventLog, OffsetOutOfRange, TopicReader
from feedback.receipts import Receipt

CAPACITY = 8_000
"""Ids that are remembered: one for an answer, three for a comparison."""

_BATCH = 200


class AnswerIndex:
    """The last ``capacity`` receipts this gateway gave, and those of the log's tail: other gateways' or an earlier life's."""

    def __init__(self, log: EventLog, receipt_days: float, capacity: int = CAPACITY) -> None:
        self._log = log
        self._receipt_days = receipt_days
        self._capacity = capacity
        self._receipts: OrderedDict[str, bytes] = OrderedDict()  # as JSON: a tenth of the memory
        self._halves: OrderedDict[str, CompletionCreated] = OrderedDict()
        self._reader: TopicReader | None = None
        self._looking = threading.Lock()
        self._changing = threading.Lock()

    @property
    def capacity(self) -> int:
        return self._capacity

    def add(self, target: Target, raw: bytes) -> None:
        """Remember a receipt, ``raw`` as JSON, by the ids of what it is about."""
        ids = target.completion_ids
        with self._changing:
            for id in ids if target.comparison_id is None else (*ids, target.comparison_id):
                self._receipts[id] = raw
            while len(self._receipts) > self._capacity:
                self._receipts.popitem(last=False)

    async def find(self, id: str) -> Receipt | None:
        """What came with the completion, or comparison, of this id. Raises `LogError` when the log cannot be read."""
        raw = self._receipts.get(id)
        if raw is None:
            await asyncio.to_thread(self._look)
            raw = self._receipts.get(id)
        return None if raw is None else Receipt.model_validate_json(raw)

    def _look(self) -> None:
        """Take in the completions since the last look, but no more than the log's tail. Other threads wait their turn."""
        with self._looking:
            try:
                self._read_on()
            except OffsetOutOfRange:  # nobody has asked for so long that what came next is not kept any more
                self._reader = None
                self._read_on()

    def _read_on(self) -> None:
        if self._reader is None or self._reader.lag() > self._capacity:
            self._reader = TopicReader(self._log, "completions", self._tail())
        while records := self._reader.poll(_BATCH):
            for record in records:
                self._take(record.event)

    def _tail(self) -> dict[int, int]:
        log, each = self._log, 1 + self._capacity // self._log.partitions("completions")
        parts = range(log.partitions("completions"))
        return {p: max(log.earliest("completions", p), log.end("completions", p) - each) for p in parts}

    def _take(self, event: Event) -> None:
        answer = event.data
        if not isinstance(answer, CompletionCreated) or answer.outcome != "ok" or answer.completion_id in self._receipts:
            return
        if answer.comparison_id is None:
            self._remember(self._receipt(event, (answer,), None))
            return
        other = self._halves.pop(answer.comparison_id, None)
        if other is None or other.position == answer.position:
            self._halves[answer.comparison_id] = answer
            while len(self._halves) > self._capacity:
                self._halves.popitem(last=False)
        else:
            both = (answer, other) if answer.position < other.position else (other, answer)
            self._remember(self._receipt(event, both, answer.comparison_id))

    def _remember(self, receipt: Receipt) -> None:
        self.add(receipt.target, receipt.model_dump_json().encode())

    def _receipt(self, event: Event, answers: tuple[CompletionCreated, ...], comparison_id: str | None) -> Receipt:
        return Receipt(
            project=event.project,
            target=Target(completion_ids=tuple(answer.completion_id for answer in answers), comparison_id=comparison_id),
            exposures=tuple(answer.exposure for answer in answers),
            user=answers[0].user,
            conversation=answers[0].conversation,
            issued=event.time,
            expires=event.time + self._receipt_days * 86_400,
        )
