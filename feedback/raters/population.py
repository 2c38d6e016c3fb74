"""What to think of one rater among all of them: empirical Bayes over the whole population's flip probabilities.

A fixed line ("epsilon above 0.4") catches nobody who has cast few votes: a prior around the honest mean holds them all under it.
So the population itself is learnt, as a distribution over a grid of epsilons, by EM (Laird 1978,
doi:10.1080/01621459.1978.10480103): where some raters vote reversed it gets a second hump, and sixteen votes tell to which of the
two somebody belongs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

GRID: NDArray[np.float64] = (np.arange(100) + 0.5) / 100

_HONEST = (1.0, 17.0)
_STRANGE = 0.1
PRIOR: NDArray[np.float64] = (1 - _STRANGE) * beta.pdf(GRID, *_HONEST) / beta.pdf(GRID, *_HONEST).sum() + _STRANGE / len(GRID)
"""(100,) before anybody has voted: nine of ten err in one vote of 18, of the tenth nothing is known. Its mean is 0.1."""

PRIOR_RATERS = 10.0
"""The prior counts as so many raters: in a small project it decides."""


@dataclass(frozen=True)
class Population:
    """By rater, of those who have voted on anything that tells."""

    flips: Mapping[str, float]
    """The posterior's mean of epsilon."""
    doubts: Mapping[str, float]
    """P(epsilon > 1/2): how probable it is that they say the opposite more often than not."""
    mean: float
    """The population's epsilon: what to expect of a stranger."""

    def heard(self, rater: str) -> float:
        """The epsilon to hear a rater's votes with. At most 1/2, where a vote says nothing: nobody is believed backwards."""
        return min(0.5, self.flips.get(rater, self.mean))


def population(plausible: Mapping[str, Sequence[float]], rounds: int = 50) -> Population:
    """``plausible``: for each rater and vote the probability that whoever is honest would have said that, by everything but
    that vote. The order of raters and of their votes does not matter.
    """
    raters = sorted(plausible)
    logs = np.zeros((len(raters), len(GRID)))
    for row, rater in enumerate(raters):
        honest = np.sort(np.array(plausible[rater], dtype=float))[:, None]
        logs[row] = np.log((1 - GRID) * honest + GRID * (1 - honest)).sum(0)
    likelihood = np.exp(logs - logs.max(1, keepdims=True, initial=-np.inf)) if raters else logs
    density, posterior = PRIOR, np.zeros_like(likelihood)
    for _ in range(rounds):
        posterior = likelihood * density
        posterior /= posterior.sum(1, keepdims=True)
        density = (PRIOR_RATERS * PRIOR + posterior.sum(0)) / (PRIOR_RATERS + len(raters))
    return Population(
        dict(zip(raters, (posterior @ GRID).tolist(), strict=True)),
        dict(zip(raters, posterior[:, GRID > 0.5].sum(1).tolist(), strict=True)),
        float(density @ GRID),
    )
