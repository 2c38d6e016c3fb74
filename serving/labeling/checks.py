"""Code in a stream's answers, checked beside the people who judge them: each verdict is a judgement in the log.

It is a score of the answer by the rater `feedback.code_check.RATER`, of source ``imported``: ``code_parses``, and where the
item has tests ``tests_passed``, which an answer without code never gets. It never takes the place of a person's judgement, and
no gateway runs it: model code is run where an operator asks for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field

from feedback.code_check import RATER, CodeVerdict, check_answer
from feedback.events import CompletionCreated, Event, FeedbackSet, Score, Target
from feedback.log import EventLog
from serving.labeling.places import read_places
from serving.labeling.streams import Stream, Streams


class Checked(BaseModel):
    """One answer with Python in it, or without any though its item has tests."""

    model_config = ConfigDict(frozen=True)

    item: str
    completion_id: str
    parses: bool = Field(description="It has code, and that is Python.")
    outcome: str | None = Field(description="Of the tests; None: the item has none, or the code does not parse.")
    detail: str = Field(description="What is wrong, in one line.")
    seconds: float | None


def check_stream(streams: Streams, stream: Stream, log: EventLog) -> Iterator[Checked]:
    """The answers that have Python in them, or should have, each once its verdict is in the log. Raises `LogError`."""
    for item in streams.items(stream.id):
        for found in () if item.gone else read_places(log, item.places) or ():
            verdict = check_answer(found.completion.text.answer, item.tests)
            if verdict is None:
                continue
            scores = verdict.scores
            log.append([_fact(stream, found.completion, score, item.tests or "", streams.now()) for score in scores])
            yield _checked(item.id, found.completion.completion_id, verdict)


def _fact(stream: Stream, completion: CompletionCreated, score: Score, tests: str, now: float) -> Event:
    """The same for the same answer, tests and verdict: checking again adds nothing."""
    parts = (stream.id, completion.completion_id, score.metric, str(score.value), tests)
    id = "fb_" + hashlib.sha256("\0".join(("code-check", *parts)).encode()).hexdigest()[:32]
    data = FeedbackSet(
        feedback_id=id,
        target=Target(completion_ids=(completion.completion_id,)),
        rater=RATER,
        judgement=score,
        exposures=(completion.exposure,),
        source="imported",
        stream=stream.id,
    )
    return Event(id=id, time=now, project=stream.project, key=completion.conversation, data=data)


def _checked(item: str, completion_id: str, verdict: CodeVerdict) -> Checked:
    run = verdict.run
    return Checked(
        item=item,
        completion_id=completion_id,
        parses=not verdict.error,
        outcome=None if run is None else run.outcome,
        detail=verdict.error if run is None else run.detail,
        seconds=None if run is None else run.seconds,
    )
