"""How probable a ranking with ties is: the Davidson-Luce model, which without ties is Plackett and Luce's.

From the best rank down, the answers that share a rank are chosen, together, out of all that are left. A set of k answers is
chosen with a probability proportional to δ^(k-1) times the geometric mean of their exp(score): Firth, Kosmidis & Turner 2019
(arXiv:1909.07123, with their δ_k = δ^(k-1)). Of two answers it is Davidson's model of 1970; with δ to 0 it is Plackett-Luce
(Luce 1959; Plackett 1975, doi:10.2307/2346567).
"""

from __future__ import annotations

import torch
from torch import Tensor

_NOTHING = -1e9
"""The log of what is as good as 0: of 0 itself, `logaddexp` has no gradient."""


def davidson_luce(scores: Tensor, ranks: tuple[int, ...], log_tie: Tensor) -> Tensor:
    """(K,) log-probability of ``ranks`` (1 is the best, equal ranks are ties) for n answers with scores (n, K).

    ``log_tie``: log δ, scalar. Exact: the sums over subsets are elementary symmetric polynomials. All ranks of n answers
    together have probability 1.
    """
    total = scores.new_zeros(scores.shape[1])
    places = torch.tensor(ranks)
    for rank in sorted(set(ranks)):
        left = scores[(places >= rank).to(scores.device)]
        if len(left) > 1:  # the last one is no choice
            chosen = scores[(places == rank).to(scores.device)]
            total = total + chosen.mean(0) + (len(chosen) - 1) * log_tie - _all_choices(left, log_tie)
    return total


def _all_choices(scores: Tensor, log_tie: Tensor) -> Tensor:
    """(K,) log of the sum over all subsets of m scores (m, K), each in what it is proportional to."""
    sizes = torch.arange(1, len(scores) + 1, device=scores.device, dtype=scores.dtype)[:, None]
    # Row k - 1 holds, in columns j = 0..m, the log of the j-th elementary symmetric polynomial of exp(score / k) so far.
    sums = [torch.zeros_like(scores), *[torch.full_like(scores, _NOTHING)] * len(scores)]
    for score in scores:
        step = score[None] / sizes
        sums = [sums[0], *(torch.logaddexp(sums[j], sums[j - 1] + step) for j in range(1, len(sums)))]
    chosen = torch.stack([sums[k + 1][k] for k in range(len(scores))])  # of size k + 1 from its own row
    return (chosen + (sizes - 1) * log_tie).logsumexp(0)
