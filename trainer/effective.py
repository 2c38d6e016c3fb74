"""How much new votes can teach, as a number of labels: a flood by one rater, a newcomer's or the same said again is not many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from math import fsum
from statistics import median

from feedback.raters.labels import grouped
from feedback.raters.weights import reliability
from trainer.examples import Example, weighted


def effective_labels(examples: Sequence[Example], new: Collection[str]) -> float:
    """What the ``new`` ones (feedback ids) of all ``examples`` count together, each beside an ordinary rater's and at most 1.

    A vote counts what it weighs after the caps on raters and keys, times its rater's reliability 1 - 2 epsilon; 1 is what an
    ordinary rater's vote has of that, the median over raters of their mean. What a rater says of the same texts again and again
    counts once, and golden items, which nobody learns from, do not.
    """
    said = [example for example in examples if not example.golden]
    worth = {example.feedback_id: example.weight * reliability(example.flip) for example in weighted(said)}
    raters = grouped(said, lambda example: example.rater).values()
    ordinary = median(fsum(worth[e.feedback_id] for e in own) / len(own) for own in raters) if raters else 0.0
    if ordinary <= 0:
        return 0.0
    fresh = [example for example in said if example.feedback_id in new]
    times = Counter(map(_matter, fresh))
    return fsum(min(1.0, worth[example.feedback_id] / ordinary) / times[_matter(example)] for example in fresh)


def _matter(example: Example) -> tuple[str, str, tuple[str, ...]]:
    """Who judged what, in whatever order it was shown."""
    return example.rater, example.prompt_hash, tuple(sorted(example.answers))
