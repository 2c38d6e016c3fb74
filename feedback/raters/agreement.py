"""How far raters agree beyond chance: Krippendorff's alpha, for any number of raters and with values missing.

Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", https://repository.upenn.edu/asc_papers/43.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Level = Literal["nominal", "ordinal", "interval"]


def alpha(units: Iterable[Sequence[float]], level: Level = "nominal") -> float | None:
    """1 - observed/expected disagreement over units, each with the values its raters gave; 1 is perfect, 0 is chance.

    Units with less than two values say nothing. None where alpha is not defined: no two raters of one unit, or all values equal.
    """
    pairable = [list(unit) for unit in units if len(unit) > 1]
    values = sorted({value for unit in pairable for value in unit})
    if len(values) < 2:
        return None
    coincidences = _coincidences(pairable, values)
    totals = coincidences.sum(1)
    distances = _distances(np.array(values), totals, level)
    expected = float((np.outer(totals, totals) * distances).sum() / (totals.sum() - 1))
    return 1 - float((coincidences * distances).sum()) / expected


def _coincidences(units: Iterable[Sequence[float]], values: Sequence[float]) -> NDArray[np.float64]:
    """(V, V): how often two values met in a unit, each unit's pairs weighing as much as its values."""
    places = {value: place for place, value in enumerate(values)}
    matrix = np.zeros((len(values), len(values)))
    for unit in units:
        counts = np.bincount([places[value] for value in unit], minlength=len(values))
        matrix += (np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)
    return matrix


def _distances(values: NDArray[np.float64], totals: NDArray[np.float64], level: Level) -> NDArray[np.float64]:
    """(V, V): the squared difference of two values."""
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    # ordinal: what lies between two values, half of each included, is the difference of their mid-ranks
    scale = values if level == "interval" else np.cumsum(totals) - totals / 2
    squares: NDArray[np.float64] = np.subtract.outer(scale, scale) ** 2
    return squares
