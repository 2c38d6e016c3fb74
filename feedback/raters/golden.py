"""Golden items, of which the right answer is known: it stands in the log, as a judgement of source ``golden``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from feedback.raters.labels import Item, Label
from feedback.raters.share import Share


def golden_truths(labels: Iterable[Label]) -> dict[Item, float]:
    """The right value of each golden item, the last one that was said where there are several."""
    return {label.item: label.value for label in labels if label.source == "golden"}


def golden_accuracy(labels: Iterable[Label], truths: Mapping[Item, float]) -> Share:
    """The right ones of a rater's labels on golden items."""
    return Share.of(label.value == truths[label.item] for label in labels if label.item in truths)
