"""What is so, by several raters who err each in their own way: Dawid and Skene's model with full confusion matrices.

Dawid & Skene 1979, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm", doi:10.2307/2346806;
the equations named below are theirs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax, xlogy

_C = TypeVar("_C", bound=Hashable)


class Labelled(NamedTuple, Generic[_C]):
    item: Hashable
    rater: str
    label: _C


@dataclass(frozen=True)
class Consensus(Generic[_C]):
    """``items``, ``raters`` and ``classes`` name the rows and columns of the arrays."""

    items: tuple[Hashable, ...]
    raters: tuple[str, ...]
    classes: tuple[_C, ...]
    posterior: NDArray[np.float64]
    """(I, K) probability of each class of each item."""
    prior: NDArray[np.float64]
    """(K,) how frequent the classes are."""
    confusion: NDArray[np.float64]
    """(R, K, K) probability that a rater says the last index where the middle one is so."""
    log_likelihood: float

    def label(self, item: Hashable) -> tuple[_C, float]:
        """The most probable class of an item, and its probability. Raises KeyError for an item nobody labelled."""
        if item not in self.items:
            raise KeyError(item)
        row = self.posterior[self.items.index(item)]
        return self.classes[int(row.argmax())], float(row.max())


def consensus(
    labels: Sequence[Labelled[_C]],
    classes: Sequence[_C] | None = None,
    *,
    smoothing: float = 0.0,
    tolerance: float = 1e-7,
    most: int = 1000,
) -> Consensus[_C]:
    """EM from each item's shares of votes until no probability of a class moves by more than ``tolerance``.

    A rater may label an item more than once. ``classes`` are those that occur, sorted, if none are named. ``smoothing`` is
    added to every cell of the counts of confusions: 0 is the paper's maximum likelihood; with few labels take more, such as
    0.1, or one rare confusion is impossible and decides alone. Raises ValueError for a label that is not among the classes.
    """
    named = tuple(sorted({label.label for label in labels}, key=repr) if classes is None else classes)
    items = tuple(dict.fromkeys(label.item for label in labels))
    raters = tuple(sorted({label.rater for label in labels}))
    counts = _counts(labels, items, raters, named)
    shares = counts.sum(1)
    posterior = shares / shares.sum(1, keepdims=True)  # (3.1)
    prior, confusion, joint = np.full(len(named), 1 / max(1, len(named))), np.zeros((0,) + 2 * (len(named),)), shares
    for _ in range(most if items else 0):
        prior, confusion = _maximise(counts, posterior, smoothing)
        joint = xlogy(1.0, prior) + xlogy(counts[:, :, None, :], confusion[None]).sum((1, 3))
        before, posterior = posterior, softmax(joint, axis=1)  # (2.5)
        if np.abs(posterior - before).max(initial=0.0) < tolerance:
            break
    likelihood = float(logsumexp(joint, axis=1).sum())  # (2.7)
    return Consensus(items, raters, named, posterior, prior, confusion, likelihood)


def _counts(
    labels: Sequence[Labelled[_C]], items: Sequence[Hashable], raters: Sequence[str], classes: Sequence[_C]
) -> NDArray[np.float64]:
    """(I, R, K): how often a rater put an item into a class."""
    rows, columns, places = ({name: place for place, name in enumerate(names)} for names in (items, raters, classes))
    counts = np.zeros((len(items), len(raters), len(classes)))
    for label in labels:
        if label.label not in places:
            raise ValueError(f"label {label.label!r} of {label.item!r}: use one of {', '.join(map(repr, classes))}")
        counts[rows[label.item], columns[label.rater], places[label.label]] += 1
    return counts


def _maximise(
    counts: NDArray[np.float64], posterior: NDArray[np.float64], smoothing: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Class frequencies (2.4) and confusion matrices (2.3); a row of which nothing is known is even."""
    confusion = np.einsum("ij,irl->rjl", posterior, counts) + smoothing
    totals = confusion.sum(2, keepdims=True)
    even = np.full_like(confusion, 1 / counts.shape[2])
    return posterior.mean(0), np.divide(confusion, totals, out=even, where=totals > 0)
