"""An imported row as events: answers that nobody here gave, and what others said of them.

All ids follow from project, format and what the row says, so importing it again makes the same events, which the log has.
No event is of a rollout: imported votes teach, and are evidence for nothing. A data set that names no rater gets one for each
row: its rows are so many people's, and no share of weight for one person silences the whole. All its completions belong to one
user, the data set itself.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from feedback.events import CompletionCreated, CompletionText, Event, Exposure, FeedbackSet, Judgement, Preference, Target
from feedback.importers.record import Imported, Verdict

ADAPTER = "imported"
"""The adapter id of answers that no adapter of ours gave."""

ID_PREFIX = "imported:"
"""Of all imported events' ids."""

_MIRRORED = {"a": "b", "b": "a"}


@dataclass(frozen=True)
class Facts:
    """What one row adds to the log: first its completions, then its feedback."""

    digest: str
    completions: tuple[Event, ...]
    feedback: tuple[Event, ...]

    @property
    def events(self) -> tuple[Event, ...]:
        return self.completions + self.feedback


def facts_of(row: Imported, project: str, format: str, time: float) -> Facts:
    """The events of a row. ``time`` (Unix seconds) is that of the import: it is no part of any id."""
    digest = _digest(project, format, _content(row))
    order = _order(row, digest)
    return Facts(
        digest,
        tuple(_completion(row, digest, project, format, time, side, order.index(side)) for side in range(len(row.answers))),
        tuple(_feedback(row, digest, project, format, time, number, order) for number in range(len(row.verdicts))),
    )


def _content(row: Imported) -> str:
    """All that a row says, in words that no new field of our own values changes."""
    prompt = [(message.role, message.content) for message in row.prompt]
    verdicts = [(v.sides, v.judgement.kind, v.judgement.model_dump(exclude_defaults=True), v.by) for v in row.verdicts]
    return json.dumps([prompt, row.answers, verdicts, row.models, row.rater, row.row_id], sort_keys=True)


def _digest(*parts: str) -> str:
    """32 hexadecimal digits."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _order(row: Imported, digest: str) -> list[int]:
    """The answers' indices as they are shown: as they were, or if that is not known, by tosses that follow from the row."""
    sides = list(range(len(row.answers)))
    return sides if row.sides_known else sorted(sides, key=lambda side: _digest("toss", digest, str(side)))


def _completion(row: Imported, digest: str, project: str, format: str, time: float, side: int, position: int) -> Event:
    name = _completion_id(digest, side)
    model = {"model": row.models[side]} if row.models and row.models[side] else {}
    data = CompletionCreated(
        completion_id=name,
        comparison_id=f"cmp_imported-{digest}-0" if len(row.answers) == 2 else None,
        position=position,
        conversation=_conversation(digest),
        user=_digest("imported user", project, format),
        text=CompletionText(messages=row.prompt, answer=row.answers[side]),
        exposure=Exposure(completion_id=name, adapter=ADAPTER),
        sampling={"imported_from": format} | model,
        finish_reason="stop",
    )
    return Event(id=f"{ID_PREFIX}{digest}:c{side}", time=time, project=project, key=_conversation(digest), data=data)


def _feedback(row: Imported, digest: str, project: str, format: str, time: float, number: int, order: list[int]) -> Event:
    sides, judgement = _as_shown(row.verdicts[number], order)
    pair = order.index(sides[0]), order.index(sides[-1])
    whole = len(row.answers) == 2
    data = FeedbackSet(
        feedback_id=f"fb_imported-{digest}-{number}",
        target=Target(
            completion_ids=tuple(_completion_id(digest, side) for side in sides),
            comparison_id=f"cmp_imported-{digest}-{0 if whole else '{}{}'.format(*pair)}" if len(sides) == 2 else None,
        ),
        rater=_digest("imported rater", project, format, row.rater or digest, row.verdicts[number].by),
        judgement=judgement,
        source="imported",
    )
    return Event(id=f"{ID_PREFIX}{digest}:f{number}", time=time, project=project, key=_conversation(digest), data=data)


def _as_shown(verdict: Verdict, order: list[int]) -> tuple[tuple[int, ...], Judgement]:
    """The sides as they are shown, and the judgement from there."""
    sides, judgement = verdict.sides, verdict.judgement
    if not isinstance(judgement, Preference) or order.index(sides[0]) < order.index(sides[1]):
        return sides, judgement
    value = _MIRRORED.get(judgement.value, judgement.value)
    return sides[::-1], judgement.model_copy(update={"value": value})


def _completion_id(digest: str, side: int) -> str:
    return f"chatcmpl-imported-{digest}-{side}"


def _conversation(digest: str) -> str:
    return f"imported-{digest}"
