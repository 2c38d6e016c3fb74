"""What an adapter is made of: which votes taught it, as one hash that anybody with the log can find again.

An entry of the tree is a vote as `plaudit replay` writes it (what was said, of what, by whom, without any text), the weight
that it had, and which of the two models learnt from it. So erasing somebody's words leaves all other entries as they are.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from feedback.join import Vote
from feedback.merkle import Hash, leaf_hash, root
from feedback.replay import row_of
from trainer.examples import Example
from trainer.inbox import Batch, PlainOffsets


def entry_of(role: str, weight: float, vote: Vote) -> bytes:
    """One entry; weights are told to six digits, which another machine's arithmetic gives too."""
    return json.dumps([role, f"{weight:.6g}", row_of(vote)], sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def leaves_of(lessons: Mapping[str, Sequence[Example]], votes: Sequence[Vote]) -> dict[tuple[str, str], Hash]:
    """The tree's leaves in their order, by role and feedback id."""
    said = {vote.feedback_id: vote for vote in votes}
    entries = sorted((role, example.feedback_id, example.weight) for role, taught in lessons.items() for example in taught)
    return {(role, name): leaf_hash(entry_of(role, weight, said[name])) for role, name, weight in entries}


def examples_root(leaves: Mapping[tuple[str, str], Hash]) -> str:
    return root(list(leaves.values())).hex()


def offset_ranges(start: Mapping[str, Mapping[int, int]], end: PlainOffsets) -> dict[str, dict[int, list[int]]]:
    """[from, to) by topic and partition; partitions in which nothing is are left out."""
    return {
        topic: {p: [start.get(topic, {}).get(p, 0), to] for p, to in sorted(partitions.items()) if to}
        for topic, partitions in end.items()
    }


def raters_of(batch: Batch) -> dict[str, Any]:
    """How many people have said how much of which kind."""
    return {
        "raters": len({vote.rater for vote in batch.votes}),
        "kinds": dict(sorted(Counter(vote.judgement.kind for vote in batch.votes).items())),
        "sources": dict(sorted(Counter(vote.source for vote in batch.votes).items())),
    }
