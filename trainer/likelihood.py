"""How probable a vote is, given the scores of the answers it is about: one likelihood for pairs and thumbs.

Position bias, tie width and the thumbs' slope and offset are nuisances: learnt with the scores, never used by them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDES = ("a", "tie", "b")


def rao_kupper(delta: Tensor, width: Tensor) -> Tensor:
    """Log-probabilities (..., 3) of a win of a, a tie, a win of b (Rao & Kupper 1967, doi:10.1080/01621459.1967.10482901).

    delta: (...) score of a less that of b; width: η > 0, a tie is likely where |delta| < η. P(a) = σ(Δ - η),
    P(b) = σ(-Δ - η), and what they leave, P(tie) = (e^{2η} - 1)·P(a)·P(b).
    """
    a, b = F.logsigmoid(delta - width), F.logsigmoid(-delta - width)
    return torch.stack([a, (2 * width).expm1().log() + a + b, b], -1)


class Likelihood(nn.Module):
    """The nuisance parameters, and the negative log-likelihood of votes under them."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.tensor(0.0))
        """b_pos: what being shown first is worth."""
        self.raw_width = nn.Parameter(torch.tensor(-1.0))
        self.raw_slope = nn.Parameter(torch.tensor(0.5413))  # softplus: 1
        self.offset = nn.Parameter(torch.tensor(0.0))

    @property
    def width(self) -> Tensor:
        """η of `rao_kupper`, positive."""
        return F.softplus(self.raw_width) + 1e-3

    def pairs(self, delta: Tensor) -> Tensor:
        """(B, 3) log-probabilities of `SIDES` for score differences (B,), a shown first."""
        return rao_kupper(delta + self.position, self.width)

    def thumbs(self, scores: Tensor) -> Tensor:
        """Logits of a thumb up, of the shape of the scores."""
        return F.softplus(self.raw_slope) * scores + self.offset

    def pair_loss(self, scores: Tensor, sides: Tensor, both_bad: Tensor, *, thumb_weight: float) -> Tensor:
        """(B,) nats. scores: (B, 2); sides: (B,) index into `SIDES`; both_bad: (B,) 1 where the tie is between two bad ones.

        Both bad is a tie and two thumbs down, each of half the weight ``thumb_weight`` of a thumb.
        """
        said = -self.pairs(scores[:, 0] - scores[:, 1]).gather(1, sides[:, None])[:, 0]
        down = F.softplus(self.thumbs(scores)).sum(1)  # -log(1 - σ(x)) = softplus(x)
        return said + both_bad * thumb_weight * 0.5 * down

    def thumb_loss(self, scores: Tensor, up: Tensor) -> Tensor:
        """(B,) nats. scores, up: (B,)."""
        return F.binary_cross_entropy_with_logits(self.thumbs(scores), up, reduction="none")
