"""Anthropic/hh-rlhf: two transcripts with a common beginning (Bai et al. 2022, arXiv:2204.05862)."""

from __future__ import annotations

import re
from typing import Any

from feedback.importers.record import Columns, Imported, RowRefused, Text, answer_pair, columns, conversation, preferred

_ASSISTANT = "\n\nAssistant:"
_MARKER = re.compile(r"\n\n(Human|Assistant):")
_ROLE = {"Human": "user", "Assistant": "assistant"}


class _Row(Columns):
    chosen: Text
    rejected: Text


def read(row: Any) -> Imported:
    """The prompt ends at the last Assistant turn of the common beginning; what follows are the answers.

    An answer that goes on with further turns is no answer to the prompt. Which one was shown first is not told.
    """
    said = columns(_Row, row)
    common = _common(said.chosen, said.rejected)
    at = common.rfind(_ASSISTANT)
    if at < 0:
        raise RowRefused("the transcripts have no common beginning")
    chosen, rejected = said.chosen[at + len(_ASSISTANT) :], said.rejected[at + len(_ASSISTANT) :]
    if _MARKER.search(chosen) or _MARKER.search(rejected):
        raise RowRefused("an answer goes on with further turns")
    answers = answer_pair(chosen, rejected)
    return Imported(conversation(_turns(common[:at])), answers, (preferred("a"),), sides_known=False)


def _common(first: str, second: str) -> str:
    differing = (at for at, (x, y) in enumerate(zip(first, second, strict=False)) if x != y)
    return first[: next(differing, min(len(first), len(second)))]


def _turns(transcript: str) -> list[tuple[str, str]]:
    head, *parts = _MARKER.split(transcript)
    if head:
        raise RowRefused("the transcript does not begin with a turn", repr(head[:40]))
    return [(_ROLE[speaker], text) for speaker, text in zip(parts[::2], parts[1::2], strict=True)]
