"""Golden items: what is right about them stands in the log, as a judgement of source ``golden``, and measures their raters."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from feedback.events import Event, FeedbackSet, Flag, Judgement, Preference, Ranking, Rating, Score, Target
from serving.labeling.answers import HARMLESS
from serving.labeling.places import Found, about
from serving.labeling.streams import Stream

RATER = "golden"
"""Who judged: nobody."""


def truth(stream: Stream, answers: Sequence[Found], right: Any, now: float) -> Event:
    """What the log is to hold; the same for the same item, but for its time."""
    completions = [answer.completion for answer in answers]
    name = f"{stream.id}\0golden\0{about([answer.place for answer in answers])}"
    id = "fb_" + hashlib.sha256(name.encode()).hexdigest()[:32]
    data = FeedbackSet(
        feedback_id=id,
        target=Target(
            completion_ids=tuple(completion.completion_id for completion in completions),
            comparison_id=completions[0].comparison_id if len(completions) > 1 else None,
        ),
        rater=RATER,
        judgement=_judgement(stream, right),
        exposures=tuple(completion.exposure for completion in completions),
        source="golden",
        stream=stream.id,
    )
    return Event(id=id, time=now, project=stream.project, key=completions[0].conversation, data=data)


def _judgement(stream: Stream, right: Any) -> Judgement:
    match stream.plan.kind:
        case "rating":
            return Rating(value=right)
        case "preference":
            return Preference(value=right)
        case "ranking":
            return Ranking(ranks=tuple(right))
        case "score":
            return Score(metric=stream.plan.metric, value=right)
        case "flag":
            return Flag(harms=tuple(right)) if right else Score(metric=HARMLESS, value=1.0, boolean=True)
        case _:
            raise ValueError(f"a {stream.plan.kind} has no right answer")
