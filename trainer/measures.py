"""How good foretelling is, in the usual figures: scikit-learn's and scipy's, with a few words on what each one is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearsonr
from sklearn.metrics import log_loss, precision_recall_fscore_support, roc_auc_score

BINS = 10
"""Of equal width, over the probability of "a" or "up"."""


@dataclass(frozen=True)
class Bin:
    """A point of the reliability diagram: ``n`` votes held ``foretold`` probable on the mean, and the ``share`` that came."""

    n: int
    foretold: float
    share: float

    @property
    def variance(self) -> float:
        """Of the share, had it been foretold rightly."""
        return self.foretold * (1 - self.foretold) / self.n


@dataclass(frozen=True)
class Measures:
    """Of decided votes, where positive is "a" and "up"; None where there is nothing to count, or (``auc``) one class only."""

    accuracy: float | None = None
    """0 as a margin is half right."""
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    auc: float | None = None
    nll: float | None = None
    """Nats a vote."""
    ece: float | None = None
    """Expected calibration error over `BINS` bins (Naeini et al. 2015): mean distance of a bin's share from what was foretold."""
    ece_noise: float | None = None
    """The `ece` that chance alone gives so many votes foretold perfectly: Σ n_b/n · sqrt(2/π · p_b(1 - p_b)/n_b)."""
    ece_error: float | None = None
    """Its standard deviation then: sqrt(Σ (n_b/n)² · (1 - 2/π) · p_b(1 - p_b)/n_b), of half-normal distances in each bin."""
    reliability: tuple[Bin, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measures(margins: Sequence[float], probabilities: Sequence[float], signs: Sequence[int]) -> Measures:
    """``margins``: which of two is better, or how good; ``probabilities``: of hearing "a" or "up"; ``signs``: +1 or -1."""
    if not signs:
        return Measures()
    truth, said = np.array(signs) > 0, np.array(margins)
    p = np.clip(np.array(probabilities, dtype=float), 1e-6, 1 - 1e-6)
    precision, recall, f1, _ = precision_recall_fscore_support(truth, said > 0, average="binary", zero_division=0.0)
    bins = reliability(p, truth)
    return Measures(
        accuracy=accuracy(margins, signs),
        precision=float(precision),
        recall=float(recall),
        f1=float(f1),
        auc=float(roc_auc_score(truth, said)) if 0 < truth.sum() < len(truth) else None,
        nll=float(log_loss(truth, p, labels=[False, True])),
        ece=sum(b.n * abs(b.share - b.foretold) for b in bins) / len(truth),
        ece_noise=sum(b.n * sqrt(2 / pi * b.variance) for b in bins) / len(truth),
        ece_error=sqrt(sum(b.n**2 * (1 - 2 / pi) * b.variance for b in bins)) / len(truth),
        reliability=tuple(bins),
    )


def accuracy(margins: Sequence[float], signs: Sequence[int]) -> float | None:
    """The share of margins with the right sign; a margin of 0 is half right. None without any."""
    if not signs:
        return None
    return float(np.where(np.array(margins) == 0, 0.5, (np.array(margins) > 0) == (np.array(signs) > 0)).mean())


def reliability(probabilities: NDArray[np.float64], truth: NDArray[np.bool_]) -> list[Bin]:
    """The bins that hold anything, from the least probable up."""
    which = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    return [
        Bin(int((which == b).sum()), float(probabilities[which == b].mean()), float(truth[which == b].mean()))
        for b in np.unique(which)
    ]


@dataclass(frozen=True)
class LengthBias:
    """How much longer answers are preferred, over ``n`` held-out pairs (thumbs where there are no pairs).

    ``score`` and ``label``: Pearson's correlation of the score and of what people said with the length in characters; of pairs,
    of differences. ``expected``: the label's, had people said what the model expects of them: cov(2p - 1, length) over the same
    two standard deviations. A model that is right has ``expected`` = ``label``; ``score`` is larger, having no noise in it.
    """

    n: int = 0
    score: float | None = None
    label: float | None = None
    expected: float | None = None


def length_bias(
    lengths: Sequence[float], margins: Sequence[float], probabilities: Sequence[float], signs: Sequence[int]
) -> LengthBias:
    label = _correlation(lengths, signs)
    if label is None:
        return LengthBias(len(signs), _correlation(lengths, margins), None, None)
    expected = 2 * np.array(probabilities) - 1
    covariance = float(np.cov(lengths, expected, ddof=0)[0, 1])
    spread = float(np.std(lengths) * np.std(signs))
    return LengthBias(len(signs), _correlation(lengths, margins), label, covariance / spread)


def _correlation(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """None where one of them does not vary."""
    if len(xs) < 2 or np.ptp(xs) == 0 or np.ptp(ys) == 0:
        return None
    return float(pearsonr(xs, ys).statistic)
