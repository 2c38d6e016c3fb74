"""What the trainer knows of the log: votes, questions that people asked, the champion. Rebuilt by replay at every start.

Nothing here is kept over a restart, so nothing can be counted twice: which votes are new is told by the offsets of the last
commit alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from feedback.codec import no_target
from feedback.events import CompletionCreated, RolloutChanged, Topic
from feedback.importers.facts import ADAPTER as IMPORTED
from feedback.join import Joiner, Vote
from feedback.log import EventLog, TopicReader
from ops import metrics
from ops.deployment import Deployment
from trainer.examples import Prompt, prompt_hash

PlainOffsets = dict[str, dict[int, int]]
"""Next offset to read, by topic and partition."""

_TOPICS: tuple[Topic, ...] = ("completions", "feedback", "control")
MAX_PROMPTS = 4096
"""The newest distinct ones that are kept to roll out on; imported ones fill only the room that people's own leave."""


@dataclass(frozen=True)
class Batch:
    """A view of the log up to ``offsets``. ``new`` are the feedback ids of votes that the last commit did not know."""

    votes: tuple[Vote, ...]
    new: frozenset[str]
    prompts: tuple[Prompt, ...]
    champion: str
    offsets: PlainOffsets


class Inbox:
    """Reads a project's topics from their start and folds them."""

    def __init__(self, log: EventLog, project: str) -> None:
        self._log = log
        self.readers = [TopicReader(log, topic) for topic in _TOPICS]
        self._joiner = Joiner(project)
        self._project = project
        self._deployment = Deployment.initial(project)
        self._prompts: dict[str, Prompt] = {}
        self._imported: dict[str, Prompt] = {}
        self._votes: list[Vote] | None = None
        self._buried: set[str] = set()

    def refresh(self) -> bool:
        """Read on; True when there was anything. Raises `feedback.log.LogError`."""
        found = False
        for reader in self.readers:
            for record in reader.drain():
                found, self._votes = True, None
                self._joiner.add(record)
                data = record.event.data
                if record.event.project != self._project:
                    continue
                if isinstance(data, CompletionCreated):
                    self._note(data)
                elif isinstance(data, RolloutChanged):
                    self._deployment = self._deployment.after(data, record.event.time)
        self._report()
        return found

    def batch(self, watermark: Mapping[str, Mapping[int, int]]) -> Batch:
        """All there is now; new is a vote of which any part lies at or beyond the watermark, missing partitions being at 0."""
        if self._votes is None:
            self._votes = self._joiner.votes()
        return Batch(
            votes=tuple(self._votes),
            new=new_votes(self._votes, watermark),
            prompts=prompts_of(tuple(self._prompts.values()), tuple(self._imported.values()), MAX_PROMPTS),
            champion=self._deployment.champion,
            offsets={reader.topic: dict(sorted(reader.offsets.items())) for reader in self.readers},
        )

    def bury(self, now: float, hours: float) -> int:
        """Note on the dead-letter topic, once, feedback that has waited for its completion for longer than ``hours``.

        It still counts should the completion come. Returns how many are new there. Raises `feedback.log.LogError`.
        """
        late = [record for record in self._joiner.orphans(now, hours) if record.event.id not in self._buried]
        self._log.append([no_target(record, now) for record in late])
        self._buried |= {record.event.id for record in late}
        return len(late)

    def _note(self, completion: CompletionCreated) -> None:
        if completion.outcome != "ok" or not completion.text.messages:
            return
        prompt = completion.text.messages
        if any(message.role == "tool" or message.tool_calls for message in prompt):
            return  # its tools are not known here: nobody could answer it as it was meant
        known = self._imported if completion.exposure.adapter == IMPORTED else self._prompts
        key = prompt_hash(prompt)
        known.pop(key, None)
        known[key] = prompt
        if len(known) > MAX_PROMPTS:
            del known[next(iter(known))]

    def _report(self) -> None:
        counts = self._joiner.counts
        metrics.JOINED.set(counts.joined)
        metrics.JOIN_RATE.set(counts.joined / counts.feedback_read if counts.feedback_read else 1.0)


def prompts_of(own: Sequence[Prompt], imported: Sequence[Prompt], most: int) -> tuple[Prompt, ...]:
    """People's own prompts, and before them the newest imported ones that there is room for. Each is given oldest first."""
    room = max(0, most - len(own))
    return (*imported[max(0, len(imported) - room) :], *own)


def new_votes(votes: Sequence[Vote], watermark: Mapping[str, Mapping[int, int]]) -> frozenset[str]:
    """Feedback ids of the votes whose feedback, or a completion of theirs, was not below the watermark."""
    return frozenset(
        vote.feedback_id
        for vote in votes
        if any(place.offset >= watermark.get(place.topic, {}).get(place.partition, 0) for place in vote.positions)
    )
