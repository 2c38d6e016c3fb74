"""How often a rater says the opposite of what is so: the one-coin model of Dawid and Skene, by EM.

An item has a truth z (the first answer is better, or not); rater k says the opposite with probability epsilon_k whatever
z is: P(said) = (1 - epsilon_k) p + epsilon_k (1 - p). Dawid & Skene 1979, doi:10.2307/2346806; one coin: Raykar et al. 2010,
jmlr.org/papers/v11/raykar10a.html, whose beta prior on epsilon keeps raters of few items near the mean.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from scipy.special import expit, logit

from feedback.join import Vote
from feedback.raters.golden import golden_truths
from feedback.raters.labels import Item, Label, decided, grouped, labels_of, latest
from feedback.raters.population import Population, population

_I = TypeVar("_I", bound=Hashable)

_CERTAIN = 1e-9

_LEAST = 0.02
"""Nothing is less probable than this to be said in earnest: one slip on an easy item makes nobody a liar."""


class FlipPrior(NamedTuple):
    """Beta(mean·strength, (1 - mean)·strength) on each rater's flip probability; ``strength`` counts as so many items."""

    mean: float = 0.1
    strength: float = 10.0


class Said(NamedTuple, Generic[_I]):
    """One rater's decided judgement of one item."""

    rater: str
    item: _I
    first: bool


@dataclass(frozen=True)
class Flips(Generic[_I]):
    by_rater: Mapping[str, float]
    """epsilon_k, the posterior's mean."""
    truth: Mapping[_I, float]
    """P(the first is better) of each item that anybody judged."""
    prior: FlipPrior

    def of(self, rater: str) -> float:
        """The prior's mean for a rater who has judged nothing."""
        return self.by_rater.get(rater, self.prior.mean)


def flip_probabilities(
    said: Sequence[Said[_I]],
    known: Mapping[_I, float] | None = None,
    prior: FlipPrior = FlipPrior(),  # noqa: B008  # frozen
    tolerance: float = 1e-6,
    most: int = 200,
) -> Flips[_I]:
    """epsilon_k of every rater and the truth of every item, by EM until no epsilon moves by more than ``tolerance``.

    ``known`` is P(the first is better) *before* anybody spoke: 1 or 0 for golden items, a reward model's out-of-fold prediction
    for others; one half for what it does not hold. An item that only one rater judged and nobody knows says nothing about them.
    """
    raters = {rater: place for place, rater in enumerate(sorted({s.rater for s in said}))}
    items = {item: place for place, item in enumerate(dict.fromkeys(s.item for s in said))}
    who = np.array([raters[s.rater] for s in said], dtype=int)
    what = np.array([items[s.item] for s in said], dtype=int)
    first = np.array([s.first for s in said], dtype=bool)
    sign = np.where(first, 1.0, -1.0)
    before = logit(np.clip([(known or {}).get(item, 0.5) for item in items], _CERTAIN, 1 - _CERTAIN))
    informed = np.isin(what, np.flatnonzero((np.bincount(what, minlength=len(items)) > 1) | (before != 0)))
    judged = np.bincount(who[informed], minlength=len(raters))
    flips, truth = np.full(len(raters), prior.mean), expit(before)
    for _ in range(most):
        truth = expit(before + np.bincount(what, -sign * logit(flips)[who], minlength=len(items)))
        wrong = np.where(first, 1 - truth[what], truth[what])
        wrongs = np.bincount(who[informed], wrong[informed], minlength=len(raters))
        after = (prior.mean * prior.strength + wrongs) / (prior.strength + judged)
        moved, flips = float(np.abs(after - flips).max(initial=0.0)), after
        if moved < tolerance:
            break
    return Flips(
        {rater: float(flips[place]) for rater, place in raters.items()},
        {item: float(truth[place]) for item, place in items.items()},
        prior,
    )


def said_of(labels: Iterable[Label]) -> list[Said[Item]]:
    """Ratings and decided pairs, the last one of each rater on an item. Golden truths are not said by raters."""
    return [Said(label.rater, label.item, label.first_is_better) for label in _spoken(labels)]


def flips_of(votes: Sequence[Vote], foretold: Mapping[str, float] | None = None) -> Population:
    """What the votes tell of their raters, each beside all others: by golden items, by overlap, and by what a model foretold.

    ``foretold``: by feedback id, how probable a model that never saw the rater's votes holds what they said. The population's
    posterior is over what the votes of *others* on the item, and the model, say of each one.
    """
    labels = labels_of(votes)
    known = {item: float(value > 0) for item, value in golden_truths(labels).items()}
    spoken = _spoken(labels)
    for label in spoken:
        if foretold and label.feedback_id in foretold:
            likely = foretold[label.feedback_id]
            known.setdefault(label.item, likely if label.first_is_better else 1 - likely)
    flips = flip_probabilities([Said(label.rater, label.item, label.first_is_better) for label in spoken], known)
    return population(
        {
            rater: [_plausible(label, flips.truth[label.item], flips.of(rater)) for label in own]
            for rater, own in grouped(spoken, lambda label: label.rater).items()
        }
    )


def _plausible(label: Label, truth: float, flip: float) -> float:
    """P(an honest rater says it), from what is known of the item without this very vote."""
    sign = 1.0 if label.first_is_better else -1.0
    others = logit(min(max(truth, _CERTAIN), 1 - _CERTAIN)) + sign * logit(flip)
    return float(np.clip(expit(sign * others), _LEAST, 1 - _LEAST))


def _spoken(labels: Iterable[Label]) -> list[Label]:
    return decided(latest(label for label in labels if label.source != "golden"))
