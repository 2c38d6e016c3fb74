"""A vote as a label on an item: two raters judge the same item if they judge answers of the same content."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

from feedback.events import CompletionCreated, Preference, Rating, Score, Source
from feedback.ids import text_hash
from feedback.join import Vote

LabelKind = Literal["rating", "preference", "score"]
LABEL_KINDS: tuple[LabelKind, ...] = ("rating", "preference", "score")

_T = TypeVar("_T")
_K = TypeVar("_K")


class Item(NamedTuple):
    """What is judged. ``contents`` are sorted, so that a pair is the same item whichever answer was shown first."""

    kind: LabelKind
    name: str
    """Of a score: its metric."""
    contents: tuple[str, ...]


class Label(NamedTuple):
    item: Item
    rater: str
    value: float
    """Rating: -1 or 1. Pair: 1 if the item's first content is preferred, -1 if the second, 0 for a tie. Score: itself."""
    time: float
    source: Source
    stream: str
    feedback_id: str

    @property
    def first_is_better(self) -> bool:
        """A rating's or a pair's value as yes or no; a tie is neither, and is to be left out before."""
        return self.value > 0


def content_of(completion: CompletionCreated) -> str:
    """The same for the same answer to the same question, whatever completion it came in; its id where its text is gone."""
    if completion.prompt_hash and completion.answer_hash:
        return f"{completion.prompt_hash}:{completion.answer_hash}"
    if completion.sealed or not completion.text.answer:
        return completion.completion_id
    asked = (part for message in completion.text.messages for part in (message.role, message.content))
    return text_hash("\0".join((*asked, completion.text.answer)))


def labels_of(votes: Iterable[Vote]) -> list[Label]:
    """The labels among the votes (ratings, preferences, scores), in their order. A pair of equal answers is no item.

    Labels of source ``golden`` are nobody's: see `feedback.raters.golden`.
    """
    return [label for label in map(_label, votes) if label is not None]


def _label(vote: Vote) -> Label | None:
    contents = tuple(map(content_of, vote.completions))
    match vote.judgement:
        case Rating(value=rating):
            kind, name, value = "rating", "", float(rating)
        case Score(metric=metric, value=score):
            kind, name, value = "score", metric, score
        case Preference(value=side) if contents[0] != contents[1]:
            in_order = contents[0] < contents[1]
            kind, name, value = "preference", "", {"a": 1.0, "b": -1.0}.get(side, 0.0) * (1 if in_order else -1)
        case _:
            return None
    item = Item(kind, name, tuple(sorted(contents)))  # type: ignore[arg-type]  # mypy takes the literals for str
    return Label(item, vote.rater, value + 0.0, vote.time, vote.source, vote.stream, vote.feedback_id)


def latest(labels: Iterable[Label]) -> list[Label]:
    """Of each rater's labels on one item the last one, in the order of the labels given."""
    last = {(label.item, label.rater): label for label in labels}
    return list(last.values())


def decided(labels: Iterable[Label]) -> list[Label]:
    """Ratings and pairs that are no ties."""
    return [label for label in labels if label.item.kind != "score" and label.value != 0]


def grouped(things: Iterable[_T], by: Callable[[_T], _K]) -> dict[_K, list[_T]]:
    """The things by key, in their order."""
    groups: dict[_K, list[_T]] = {}
    for thing in things:
        groups.setdefault(by(thing), []).append(thing)
    return groups


def units_of(labels: Iterable[Label]) -> list[Sequence[float]]:
    """Each item's values, one of each rater: what `feedback.raters.agreement.alpha` takes."""
    items: Mapping[Item, list[Label]] = grouped(latest(labels), lambda label: label.item)
    return [[label.value for label in labels] for labels in items.values()]
