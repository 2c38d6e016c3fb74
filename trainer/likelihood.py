"""How probable a judgement is, given the scores of the answers it is about: one likelihood for every kind of feedback.

Whatever is beside the scores is a nuisance: learnt with them, never used by them. Position bias, tie width, the slopes and
offsets of thumbs, flags and figures are here; rater offsets are made anew for each training and kept nowhere.

Each rater is heard through a noise: with probability epsilon they say the opposite of what they would say, so what is
likely to be heard is p̃ = (1 - ε)·p + ε·p(the opposite). The opposite of a tie is a tie.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.rankings import davidson_luce

SIDES = ("a", "tie", "b")

RATER_SPREAD = 0.5
"""Standard deviation of the raters' offsets (logits of a thumb) in the normal prior that shrinks them to 0."""

_ONE = 0.5413
"""softplus of it is 1."""

_START = {"position": 0.0, "raw_width": -1.0, "raw_slope": _ONE, "offset": 0.0, "log_tie": -1.0, "flag_offset": 0.0}
_FIGURE = [_ONE, 0.0]

_METRIC = "metric:"
"""Before a metric's name, which is the application's to choose: without it "type" and "keys" are names of PyTorch's own."""


def rao_kupper(delta: Tensor, width: Tensor) -> Tensor:
    """Log-probabilities (..., 3) of a win of a, a tie, a win of b (Rao & Kupper 1967, doi:10.1080/01621459.1967.10482901).

    delta: (...) score of a less that of b; width: η > 0, a tie is likely where |delta| < η. P(a) = σ(Δ - η),
    P(b) = σ(-Δ - η), and what they leave, P(tie) = (e^{2η} - 1)·P(a)·P(b).
    """
    a, b = F.logsigmoid(delta - width), F.logsigmoid(-delta - width)
    return torch.stack([a, (2 * width).expm1().log() + a + b, b], -1)


def heard(said: Tensor, opposite: Tensor, flip: Tensor) -> Tensor:
    """log p̃ of `(1 - ε)·p + ε·p(opposite)` from both log-probabilities; all of one shape. Natarajan et al. 2013 (NeurIPS)."""
    return torch.logaddexp(torch.log1p(-flip) + said, torch.log(flip) + opposite)


class Likelihood(nn.Module):
    """The nuisance parameters, and log-probabilities of judgements under them."""

    flip: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.tensor(_START["position"]))
        """b_pos: what being shown first is worth."""
        self.raw_width = nn.Parameter(torch.tensor(_START["raw_width"]))
        self.raw_slope = nn.Parameter(torch.tensor(_START["raw_slope"]))
        self.offset = nn.Parameter(torch.tensor(_START["offset"]))
        self.log_tie = nn.Parameter(torch.tensor(_START["log_tie"]))
        """log δ of `davidson_luce`."""
        self.flag_offset = nn.Parameter(torch.tensor(_START["flag_offset"]))
        self.figures = nn.ParameterDict()
        """By metric of the application, after `_METRIC`: (2,) raw slope and offset."""
        self.register_buffer("flip", torch.tensor(0.0))
        """Mean epsilon of the votes last learnt from: what is expected of somebody unknown."""

    def know(self, metrics: Iterable[str]) -> None:
        """Have a slope and an offset for each of the application's metrics."""
        for metric in sorted(set(metrics)):
            if metric not in self.metrics:
                self.figures[_METRIC + metric] = nn.Parameter(self.position.new_tensor(_FIGURE))

    @property
    def metrics(self) -> set[str]:
        """Those that it has a slope and an offset for."""
        return {name.removeprefix(_METRIC) for name in self.figures}

    @staticmethod
    def metrics_in(names: Iterable[str], prefix: str) -> Iterator[str]:
        """The metrics of which a saved likelihood knew; ``names`` are those of its tensors, ``prefix`` what they begin with."""
        known = f"{prefix}figures.{_METRIC}"
        return (name.removeprefix(known) for name in names if name.startswith(known))

    @property
    def width(self) -> Tensor:
        """η of `rao_kupper`, positive."""
        return F.softplus(self.raw_width) + 1e-3

    def pairs(self, delta: Tensor, shown: Tensor | float = 1.0) -> Tensor:
        """(..., 3) log-probabilities of `SIDES` for score differences (...). ``shown``: 1 where a was shown first, 0 where
        nobody saw the two side by side.
        """
        return rao_kupper(delta + self.position * shown, self.width)

    def thumbs(self, scores: Tensor) -> Tensor:
        """Logits of a thumb up, of the shape of the scores; of a rater without an offset."""
        return F.softplus(self.raw_slope) * scores + self.offset

    def flags(self, scores: Tensor) -> Tensor:
        """Logits of a flag, of the shape of the scores.

        A flag is a "down" in a channel of its own: its offset says how rare flags are, so the rarer they are the lower a
        flagged answer has to score. The slope is 1 and not learnt: with one near 0 a harmful answer could score well.
        """
        return self.flag_offset - scores

    def figure(self, metric: str, scores: Tensor) -> Tensor:
        """Logits of the application's metric ``metric``, of the shape of the scores."""
        slope, offset = self.figures[_METRIC + metric]
        return F.softplus(slope) * scores + offset

    def ranking(self, scores: Tensor, ranks: tuple[int, ...]) -> Tensor:
        """(K,) log-probability of the ranks of n answers with scores (n, K)."""
        return davidson_luce(scores, ranks, self.log_tie)

    def prior(self) -> Tensor:
        """Nats: a normal of standard deviation 1 around where every nuisance starts, so that few votes move none of them far."""
        nats = self.position.new_zeros(())
        for name, value in self.named_parameters():
            start = _START[name] if name in _START else value.new_tensor(_FIGURE)
            nats = nats + ((value - start) ** 2).sum() / 2
        return nats


def binary_nats(logits: Tensor, target: Tensor, flip: Tensor) -> Tensor:
    """Cross-entropy of a target in [0, 1] through the rater's noise, nats, of the common shape."""
    up, down = F.logsigmoid(logits), F.logsigmoid(-logits)
    return -(target * heard(up, down, flip) + (1 - target) * heard(down, up, flip))
