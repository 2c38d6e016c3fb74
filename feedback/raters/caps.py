"""Caps on the shares of raters and of API keys in one sum, both at once.

Weights are cut in proportion: all of a rater's by one factor, all of a key's by another.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import accumulate
from math import fsum

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array, eye_array, vstack

Totals = Mapping[tuple[str, str], float]
"""Positive weight by (rater, key). The key "" is none, and has no cap."""

NO_KEY = ""

_ROUNDS = 100
_SLACK = 1e-9


def factors(totals: Mapping[str, float], share: float, free: Collection[str] = ()) -> dict[str, float]:
    """What to multiply each one's weights by, so that nobody's but the ``free`` ones' exceed ``share`` of the sum *after* it.

    With the k heaviest at the cap, the sum is T = rest / (1 - k·share), and k is the least for which the next one fits. Needs
    len(totals)·share >= 1 where nobody is free, else there is no solution.
    """
    heaviest = sorted((name for name in totals if name not in free), key=lambda name: (-totals[name], name))
    freed = fsum(totals[name] for name in totals if name in free)
    rests = [*accumulate((totals[name] for name in reversed(heaviest)), initial=freed)][::-1]  # what the k heaviest leave
    capped = 0
    while capped < len(heaviest) and totals[heaviest[capped]] * (1 - capped * share) > share * rests[capped] * (1 + 1e-12):
        capped += 1
    cap = share * rests[capped] / (1 - capped * share) if capped else 0.0
    at_cap = {name: cap / totals[name] for name in heaviest[:capped]}
    return {name: at_cap.get(name, 1.0) for name in totals}


def capped(totals: Totals, rater_share: float, key_share: float) -> dict[tuple[str, str], float] | None:
    """The totals, cut so that both caps hold on the sum of what is left; None if no weights of these pairs can keep both.

    Each side's factors are found anew given the other's, until both hold (iterative proportional fitting); where that takes
    too long, which it does next to the impossible, it is the nearest weights that keep the caps.
    """
    of_key = {key: 1.0 for _, key in totals}
    for _ in range(_ROUNDS):
        of_rater = factors(_sums(totals, 0, of_key), rater_share)
        cut = {(rater, key): total * of_rater[rater] * of_key[key] for (rater, key), total in totals.items()}
        if _keys_fit(cut, key_share):
            return cut
        of_key = factors(_sums(totals, 1, of_rater), key_share, free=(NO_KEY,))
    return nearest(totals, rater_share, key_share)


def nearest(totals: Totals, rater_share: float, key_share: float) -> dict[tuple[str, str], float] | None:
    """Weights of sum 1 that keep both caps and differ least from the totals' shares, by linear programming; None if none do.

    The sum of absolute differences is least: as little weight as can be changes hands.
    """
    pairs = sorted(totals)
    raters = sorted({rater for rater, _ in pairs})
    keys = sorted({key for _, key in pairs if key != NO_KEY})
    member = csr_array(
        [[float(rater == name) for rater, _ in pairs] for name in raters]
        + [[float(key == name) for _, key in pairs] for name in keys]
    )
    one = eye_array(len(pairs))
    whole = fsum(totals.values())
    shares = np.array([totals[pair] / whole for pair in pairs])
    above = csr_array(vstack([csr_array((member.shape[0], len(pairs))), -one, -one]))  # the differences' columns
    solved = linprog(
        np.repeat([0.0, 1.0], len(pairs)),
        A_ub=_beside(csr_array(vstack([member, one, -one])), above),
        b_ub=np.concatenate([np.full(len(raters), rater_share), np.full(len(keys), key_share), shares, -shares]),
        A_eq=np.repeat([[1.0, 0.0]], len(pairs), axis=1).reshape(1, -1),
        b_eq=[1.0],
        options={"primal_feasibility_tolerance": 1e-10},
    )
    return {pair: float(max(0.0, x)) for pair, x in zip(pairs, solved.x, strict=False)} if solved.status == 0 else None


def _beside(left: csr_array, right: csr_array) -> csr_array:
    return csr_array(vstack([left.T, right.T]).T)


def _keys_fit(cut: Totals, share: float) -> bool:
    """Whether no key's total is above its cap, and anything is left at all."""
    sums = _sums(cut, 1, {rater: 1.0 for rater, _ in cut})
    whole = fsum(sums.values())
    return whole > 0 and all(total <= share * whole * (1 + _SLACK) for key, total in sums.items() if key != NO_KEY)


def _sums(totals: Totals, side: int, others: Mapping[str, float]) -> dict[str, float]:
    """Totals of the raters (side 0) or keys (1), the other side's factors applied."""
    parts: dict[str, list[float]] = {}
    for pair, total in totals.items():
        parts.setdefault(pair[side], []).append(total * others[pair[1 - side]])
    return {name: fsum(values) for name, values in parts.items()}
