"""Where a rater contradicts themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from feedback.raters.labels import Label, decided, grouped
from feedback.raters.share import Share


@dataclass(frozen=True)
class Contradictions:
    """Shares of what could have been contradicted that was."""

    repeated: Share
    """The same item judged again, otherwise."""
    cyclic: Share
    """Preferences on a cycle: x over y, y over z, z over x."""
    rated: Share
    """Pairs of a liked and a disliked answer of which the disliked one was preferred."""

    @property
    def total(self) -> int:
        return self.repeated.hits + self.cyclic.hits + self.rated.hits


def contradictions(labels: Iterable[Label]) -> Contradictions:
    """Of one rater's labels, in order of time."""
    mine = list(labels)
    return Contradictions(_repeated(mine), _cyclic(mine), _rated(mine))


def _repeated(labels: Sequence[Label]) -> Share:
    """Against the judgement before; scores are allowed to move."""
    again = grouped([label for label in labels if label.item.kind != "score"], lambda label: label.item)
    return Share.of(first.value != second.value for same in again.values() for first, second in pairwise(same))


def _cyclic(labels: Sequence[Label]) -> Share:
    """A preference is on a cycle if and only if both its ends are in one strongly connected component."""
    edges = list(dict.fromkeys(_preferences(labels)))
    if not edges:
        return Share()
    places = {content: place for place, content in enumerate(dict.fromkeys(end for edge in edges for end in edge))}
    better, worse = (np.array([places[edge[end]] for edge in edges]) for end in (0, 1))
    graph = coo_matrix((np.ones(len(edges)), (better, worse)), shape=(len(places), len(places)))
    _, component = connected_components(graph, directed=True, connection="strong")
    return Share.of((component[better] == component[worse]).tolist())


def _rated(labels: Sequence[Label]) -> Share:
    ratings = {label.item.contents[0]: label.value for label in labels if label.item.kind == "rating"}
    told = [(ratings.get(better, 0.0), ratings.get(worse, 0.0)) for better, worse in _preferences(labels)]
    return Share.of(better < worse for better, worse in told if better * worse < 0)


def _preferences(labels: Iterable[Label]) -> list[tuple[str, str]]:
    """(better, worse) of every decided pair."""
    pairs = [label for label in decided(labels) if label.item.kind == "preference"]
    return [label.item.contents if label.first_is_better else label.item.contents[::-1] for label in pairs]  # type: ignore[misc]
