"""Answers held against the log: who spoke, and whom the completion event names."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from feedback.events import CompletionCreated
from feedback.log import EventLog, TopicReader

_LOG_S = 20.0
"""How long the last events may take to reach the log."""

_POLL_S = 0.1


@dataclass(frozen=True)
class Checked:
    """How many answers are not one adapter's word, are not that of the adapter their event names, or have no event."""

    mixed: int = 0
    misnamed: int = 0
    unlogged: int = 0


def check(said: Mapping[str, str], adapters: Mapping[str, str], named: Mapping[str, str]) -> Checked:
    """``said``: completion id -> words; ``adapters``: word -> adapter; ``named``: completion id -> adapter, by the log."""
    counts = Counter(_verdict(adapters.get(words), named.get(id)) for id, words in said.items())
    return Checked(counts["mixed"], counts["misnamed"], counts["unlogged"])


def _verdict(speaker: str | None, named: str | None) -> str:
    """``speaker``: the adapter whose word the answer says and nothing else, None if there is none."""
    if speaker is None:
        return "mixed"
    if named is None:
        return "unlogged"
    return "whole" if speaker == named else "misnamed"


def named_in(log: EventLog, completion_ids: Iterable[str], timeout_s: float = _LOG_S) -> dict[str, str]:
    """Completion id -> the adapter that its event names, of all that reach the log in time."""
    reader, missing = TopicReader(log, "completions"), set(completion_ids)
    named: dict[str, str] = {}
    deadline = time.monotonic() + timeout_s
    while True:
        for record in reader.drain():
            if isinstance(record.event.data, CompletionCreated):
                named[record.event.data.completion_id] = record.event.data.exposure.adapter
        missing -= named.keys()
        if not missing or time.monotonic() > deadline:
            return named
        time.sleep(_POLL_S)
