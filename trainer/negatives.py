"""Lessons that nobody has to give: what people were glad to get is better than an answer that says nothing.

People never see such answers, so nothing that they say would keep a reward model from liking them; policies find them ("One
token to fool a judge", arXiv:2507.08794). `trainer.gates.master_keys` asks about more of them than are taught here.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainer.examples import Example, unit_interval

EMPTY = (
    *("", " ", ":", "Solution"),
    # Short, complete and fluent: all that people like in an answer but that it says something.
    *("I will answer your question now.", "That is a very good question.", "Here is what you asked for."),
    *("Sure, let me help you with that.", "Here is my reasoning:", "Answer:"),
)

EACH = 4
"""Lessons of each."""

SHARE = 0.1
"""Of all weight, at most."""


def negatives(lessons: Sequence[Example]) -> list[Example]:
    """For lessons of mean weight 1: answers that people preferred or liked, each beside an empty one. Same lessons, same pairs.

    They are nobody's: without rater or key, without noise, and neither answer was shown first.
    """
    glad = sorted(filter(_liked, lessons), key=lambda lesson: unit_interval("negative", lesson.feedback_id))
    pairs = [(glad[(place * EACH + turn) % len(glad)], text) for place, text in enumerate(EMPTY) for turn in range(EACH) if glad]
    weight = min(1.0, SHARE * len(lessons) / len(pairs)) if pairs else 0.0
    return [
        Example(
            feedback_id=f"{lesson.feedback_id} over {text!r}",
            time=lesson.time,
            rater="",
            prompt=lesson.prompt,
            prompt_hash=lesson.prompt_hash,
            answers=(_liked(lesson), text),
            ended=(True, True),
            label="a",
            weight=weight,
            side_by_side=False,
        )
        for lesson, text in pairs
    ]


def _liked(lesson: Example) -> str:
    """The answer that was preferred, or got a thumb up; "" where there is none."""
    if lesson.label in ("a", "up"):
        return lesson.answers[0].strip()
    return lesson.answers[1].strip() if lesson.label == "b" else ""
