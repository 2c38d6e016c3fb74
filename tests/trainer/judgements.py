"""Examples made by hand, and people who like what says "thanks"."""

from __future__ import annotations

import random
from typing import Any

from feedback.events import Message
from trainer.examples import Example, prompt_hash

GOOD, BAD = ("yes, thanks", "thanks a lot, yes", "no, thanks"), ("ugh, yes", "ugh ugh, no", "yes, ugh")


def example(number: int, answers: tuple[str, ...], label: str, rater: str | None = None, **fields: Any) -> Example:
    prompt = (Message(role="user", content=f"question {number}?"),)
    return Example(
        feedback_id=f"f{number}",
        time=float(number),
        rater=rater or f"r{number}",
        prompt=prompt,
        prompt_hash=prompt_hash(prompt),
        answers=answers,
        ended=(True,) * len(answers),
        label=label,  # type: ignore[arg-type]
        **fields,
    )


def taste(count: int, seed: int) -> list[Example]:
    """Pairs and, one in four, thumbs of people who like GOOD."""
    rng, made = random.Random(seed), []
    for number in range(seed * 1000, seed * 1000 + count):
        good, bad, first = rng.choice(GOOD), rng.choice(BAD), rng.random() < 0.5
        if number % 4 == 0:
            made.append(example(number, (good if first else bad,), "up" if first else "down"))
        else:
            made.append(example(number, (good, bad) if first else (bad, good), "a" if first else "b"))
    return made
