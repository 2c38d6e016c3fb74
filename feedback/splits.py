"""Which votes are held out for testing: by rater, by prompt and by time. A vote's split is the vote's own: others never move it.

A rater is held out, or is not, by a hash; so is a prompt. Of the votes in a partition of the log, the newest of each block
are held out in time: whoever learns from a block's others is tested on what came after them.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from feedback.join import Vote

Split = Literal["train", "test", "test_rater", "test_prompt", "test_time"]

_SHARE = 0.1
"""Of the raters, and of the prompts."""

_BLOCK = 20
"""Places of feedback in one partition of the log."""

_NEWEST = 2
"""Of each block."""


def split_of(vote: Vote) -> Split:
    """``test``: its rater and its prompt are both held out, so that it has neither in common with ``train``.

    ``test_rater``, ``test_prompt``: the one is, the other is not. ``test_time``: known rater, known prompt, later.
    """
    by_rater = _unit_interval("rater", vote.rater) < _SHARE
    by_prompt = _unit_interval("prompt", _prompt(vote)) < _SHARE
    if by_rater:
        return "test" if by_prompt else "test_rater"
    if by_prompt:
        return "test_prompt"
    # Imported votes have the order of a file, not of time.
    late = vote.source != "imported" and vote.positions[0].offset % _BLOCK >= _BLOCK - _NEWEST
    return "test_time" if late else "train"


def _prompt(vote: Vote) -> str:
    return "\0".join(f"{message.role}\0{message.content}" for message in vote.completions[0].text.messages)


def _unit_interval(label: str, value: str) -> float:
    """A hash of both as a number in [0, 1)."""
    return int.from_bytes(hashlib.sha256(f"split {label}\0{value}".encode()).digest()[:8], "big") / 2**64
