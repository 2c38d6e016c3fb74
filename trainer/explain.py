"""Which feedback made an adapter: read again from the log, and held against the hash that its manifest has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from feedback.log import EventLog
from ops.registry import AdapterManifest
from ops.settings import RewardSettings
from trainer.curriculum import curriculum
from trainer.inbox import Inbox
from trainer.provenance import examples_root, leaves_of


class NotExplained(ValueError):
    """The manifest does not say what the adapter was made of: another program's, or an earlier version's."""


@dataclass(frozen=True)
class Explained:
    """``feedback``: feedback_id, kind, rater (hash), time, learnt by whom ("reward", "judge"), new or replayed; by id.

    ``matches``: their tree has the manifest's root. If not, the log is not what it was: somebody was erased since, retention
    has deleted what an adapter knows, or it is another log.
    """

    feedback: tuple[dict[str, Any], ...]
    merkle_root: str
    matches: bool


def feedback_of(log: EventLog, manifest: AdapterManifest) -> Explained:
    """What the cycle was taught that made the adapter. Raises `NotExplained` and `feedback.log.LogError`."""
    try:
        said = manifest.training["examples"]["merkle_root"]
        seeds, reward = manifest.training["seeds"], RewardSettings(**manifest.training["config"]["reward"])
        ranges = {
            topic: {int(p): tuple(ends) for p, ends in partitions.items()}
            for topic, partitions in manifest.training["offsets"].items()
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise NotExplained(
            f"adapter {manifest.id}: its manifest does not say what it was made of ({error!r}): an earlier version made it"
        ) from error
    inbox = Inbox(log, manifest.project)
    inbox.refresh(until={topic: {p: end for p, (_, end) in each.items()} for topic, each in ranges.items()})
    batch = inbox.batch({topic: {p: start for p, (start, _) in each.items()} for topic, each in ranges.items()})
    taught = curriculum(batch, reward, seeds).lessons
    root = examples_root(leaves_of(taught, batch.votes))
    kinds = {vote.feedback_id: vote.judgement.kind for vote in batch.votes}
    rows = [
        {
            "feedback_id": example.feedback_id,
            "kind": kinds[example.feedback_id],
            "rater": example.rater,
            "time": example.time,
            "learnt_by": name,
            "new": example.feedback_id in batch.new,
        }
        for name, examples in taught.items()
        for example in examples
    ]
    return Explained(tuple(sorted(rows, key=lambda row: str(row["feedback_id"]))), root, root == said)
