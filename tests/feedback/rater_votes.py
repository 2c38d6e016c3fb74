"""Standing votes for tests of raters, with only what a test is about spelled out."""

from __future__ import annotations

from itertools import count

from feedback.events import CompletionCreated, CompletionText, Exposure, Judgement, Message, Preference, Rating, Score, Target
from feedback.join import Vote
from feedback.log import Position

_numbers = count()


def completion(answer: str, question: str = "q", tokens: int = 0) -> CompletionCreated:
    """A new completion each time, with the text given."""
    name = f"chatcmpl-{next(_numbers)}"
    return CompletionCreated(
        completion_id=name,
        conversation="c",
        user="u",
        text=CompletionText(messages=(Message(role="user", content=question),), answer=answer),
        exposure=Exposure(completion_id=name, adapter="base"),
        completion_tokens=tokens,
    )


def vote(judgement: Judgement, *completions: CompletionCreated, rater: str = "r", time: float = 0.0, **fields: object) -> Vote:
    number = next(_numbers)
    target = Target(completion_ids=tuple(c.completion_id for c in completions))
    defaults = {"source": "end_user", "key_id": "", "stream": "", "task": ""}
    return Vote(
        feedback_id=f"fb-{number}",
        time=time,
        project="p",
        key="c",
        rater=rater,
        judgement=judgement,
        target=target,
        completions=completions,
        exposures=(),
        positions=(Position("feedback", 0, number),),
        **{**defaults, **fields},  # type: ignore[arg-type]
    )


def pair(a: str, b: str, value: str, rater: str = "r", **fields: object) -> Vote:
    """Which of two answers to one question is better; a is shown first."""
    judgement = Preference(value=value, decision_ms=fields.pop("ms", None))
    return vote(judgement, completion(a), completion(b), rater=rater, **fields)


def thumb(answer: str, value: int, rater: str = "r", **fields: object) -> Vote:
    return vote(Rating(value=value, decision_ms=fields.pop("ms", None)), completion(answer), rater=rater, **fields)


def score(answer: str, value: float, rater: str = "r", **fields: object) -> Vote:
    return vote(Score(metric="helpful", value=value), completion(answer), rater=rater, **fields)
