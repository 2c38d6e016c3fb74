"""Heads and nuisances on readings that do not change: a smooth problem, solved with all votes at once in a fraction of a second.

So learning starts from what the frozen model knows (linear probing, then fine-tuning: Kumar et al. 2022, arXiv:2202.10054), and
so a vote can be foretold by heads that have not seen it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ops.settings import RewardSettings
from trainer.ballots import Ballots
from trainer.heads import Heads
from trainer.likelihood import RATER_SPREAD, Likelihood


def solve(
    heads: Heads,
    likelihood: Likelihood,
    readings: Tensor,
    ballots: Ballots,
    takes: Tensor,
    settings: RewardSettings,
    offsets: Tensor | None = None,
    steps: int = 60,
) -> None:
    """Fit ``heads``, ``likelihood`` and the raters' ``offsets`` in place, by L-BFGS from where they are.

    readings: (R, H + `COUNT`), in the order of the ballots' rows; takes: (N, K) how often each head takes each example.
    """
    parameters = [*heads.parameters(), *likelihood.parameters(), *([] if offsets is None else [offsets])]
    optimizer = torch.optim.LBFGS(parameters, max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective(heads, likelihood, heads(readings), ballots, takes, settings, offsets, 1.0) / len(ballots.examples)
        loss.backward()
        return loss

    optimizer.step(closure)


def objective(
    heads: Heads,
    likelihood: Likelihood,
    scores: Tensor,
    ballots: Ballots,
    takes: Tensor,
    settings: RewardSettings,
    offsets: Tensor | None,
    share: float,
) -> Tensor:
    """Nats, the mean of the heads: the ballots' as each head takes them, and ``share`` of all priors. scores: (R, K)."""
    nats = ballots.nats(scores, likelihood, settings, offsets)
    votes = (ballots.weights[:, None] * takes * nats).sum(0).mean()
    prior = heads.penalty().mean() + likelihood.prior()
    if offsets is not None:
        prior = prior + (offsets**2).sum() / (2 * RATER_SPREAD**2)
    return votes + share * prior
