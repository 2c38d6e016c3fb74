"""Style goals: what an operator wants more or less of, beside what people prefer, learnt from scores of a metric of that name.

The field calls it multi-objective reward modelling: heads for absolute ratings on one trunk, added up by weights (ArmoRM, Wang et
al. 2024, arXiv:2406.12845; attributes as in SteerLM, Dong et al. 2023, arXiv:2310.05344). There a gate network weighs them for
each prompt; here the operator does, once. Each is standardised before it is added, so that none counts for its unit
("normalize_then_sum" of TRL's GRPO; GDPO, arXiv:2601.05242).

Preferences stay a score of their own: no score of a goal's metric enters it, the trunk learns nothing from goals, and the gates
ask for preferences alone, so a goal never buys what people dislike. It decides among what they like as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from trainer.examples import Example
from trainer.heads import HEADS, Heads, bootstrap
from trainer.likelihood import binary_nats
from trainer.surprise import COUNT

MIN_LABELS = 20
"""With less a goal is left out of the reward."""

REACH = 3.0
"""Standard deviations that count, to either side: what is further out than what people have scored is nobody's word."""

STEPS = 60
"""Of L-BFGS: the problem is convex and small."""


class NoGoal(ValueError):
    """Why a goal is left out of the reward."""


class Goal(nn.Module):
    """A goal's heads on the readings of the reward model's trunk: P(the metric is 1) = sigmoid(heads + offset)."""

    weight: Tensor
    """Of the reward: what one standard deviation of the goal is worth, in nats of preference; below 0, less of it is wanted."""
    mean: Tensor
    std: Tensor
    """Of the heads' mean score over the answers learnt from, as their labels weigh."""
    flip: Tensor
    """Mean epsilon of those who gave the labels."""

    def __init__(self, size: int) -> None:
        """``size``: of the readings."""
        super().__init__()
        self.heads = Heads(size - COUNT)
        self.offset = nn.Parameter(torch.zeros(HEADS))
        for name in ("weight", "mean", "std", "flip"):
            self.register_buffer(name, torch.tensor(0.0))

    def logits(self, readings: Tensor) -> Tensor:
        """(R, F) to (R, K)."""
        return self.heads(readings) + self.offset

    @torch.no_grad()
    def pull(self, readings: Tensor) -> Tensor:
        """(R, F) to (R,): weight times the standardised score, less |weight| times the spread of the heads; at most `REACH`."""
        scores = self.heads(readings)
        lead = self.weight * (scores.mean(1) - self.mean) - self.weight.abs() * scores.std(1)
        most = REACH * float(self.weight.abs())
        return (lead / self.std).clamp(-most, most)


def learn_goal(labels: Sequence[Example], readings: Tensor, weight: float) -> Goal:
    """The goal that the labels teach: scores of its metric, weighted so that nobody has too much to say (`trainer.examples`).

    readings: (N, F), of each label's answer. It is learnt anew each time: the trunk has moved since. Raises `NoGoal`.
    """
    if len(labels) < MIN_LABELS:
        raise NoGoal(f"{len(labels)} labels, it takes {MIN_LABELS}")
    device = readings.device
    values, shares, flips = torch.tensor([(label.value, label.weight, label.flip) for label in labels], device=device).unbind(1)
    goal = Goal(readings.shape[1]).to(device)
    goal.weight.fill_(weight)
    goal.flip.copy_((flips * shares).sum() / shares.sum().clamp(min=1e-9))
    goal.heads.measure(readings)
    takes = bootstrap(labels).to(device)
    usual = _solve(goal, readings, values, shares, flips, takes)
    _foretells(goal, readings, values, shares, flips, takes, usual)
    with torch.no_grad():
        scores, share = goal.heads(readings).mean(1), shares / shares.sum()
        goal.mean.copy_((share * scores).sum())
        goal.std.copy_((share * (scores - goal.mean) ** 2).sum().sqrt())
    return goal


def _solve(goal: Goal, readings: Tensor, values: Tensor, shares: Tensor, flips: Tensor, takes: Tensor) -> Tensor:
    """Fit the heads in place; the labels' mean. takes: (N, K) how often each head takes each label."""
    usual = (shares * values).sum() / shares.sum().clamp(min=1e-9)
    if not 0 < usual < 1 or bool((values == values[0]).all()):
        raise NoGoal(f"all of its {len(values)} labels say the same")
    start = usual.logit()
    goal.offset.data.fill_(start)
    optimizer = torch.optim.LBFGS(goal.parameters(), max_iter=STEPS, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        nats = binary_nats(goal.logits(readings), values[:, None], flips[:, None])
        votes = (shares[:, None] * takes * nats).sum(0).mean()
        prior = goal.heads.penalty().mean() + ((goal.offset - start) ** 2).mean() / 2
        loss = (votes + prior) / len(values)
        loss.backward()
        return loss

    optimizer.step(closure)
    return usual


@torch.no_grad()
def _foretells(goal: Goal, readings: Tensor, values: Tensor, shares: Tensor, flips: Tensor, takes: Tensor, usual: Tensor) -> None:
    """Each label is left out of one head (`bootstrap`): raises `NoGoal` unless these foretell better than the labels' mean does.

    Scores that tell nothing would be noise in the reward, and standardised noise is as large as any goal.
    """
    unseen = goal.logits(readings)[takes == 0]
    own = binary_nats(unseen, values, flips)
    nats, mean = ((shares * each).sum() / shares.sum() for each in (own, _entropy(usual, values)))
    if not nats < mean:
        raise NoGoal(f"it foretells its labels no better than their mean does ({nats:.3f} nats, {mean:.3f})")


def _entropy(usual: Tensor, values: Tensor) -> Tensor:
    """(N,) nats of who always says ``usual``."""
    return -(values * usual.log() + (1 - values) * (1 - usual).log())


@dataclass(frozen=True)
class GoalFigures:
    """How a goal does on ``n`` held-out scores of its metric, which are of raters and on prompts it never learnt from."""

    weight: float
    labels: int
    """Learnt from."""
    left_out: str = ""
    """Why it is not in the reward; "" where it is."""
    n: int = 0
    nll: float | None = None
    """Nats a score."""
    mean_nll: float | None = None
    """Of who always says the mean of the labels learnt from."""
    rank: float | None = None
    """Spearman's correlation of the goal with the scores; None where one of them does not vary."""
    length_rank: float | None = None
    """The same of the answers' lengths in characters, which may be all that a goal is about."""


@torch.no_grad()
def goal_figures(goal: Goal, readings: Tensor, labels: Sequence[Example], learnt: Sequence[Example]) -> GoalFigures:
    """readings: (n, F) of the held-out labels' answers."""
    known = GoalFigures(weight=float(goal.weight), labels=len(learnt))
    if not labels:
        return known
    values = torch.tensor([label.value for label in labels], device=readings.device)
    usual = values.new_tensor([label.value for label in learnt]).mean()
    return GoalFigures(
        weight=known.weight,
        labels=known.labels,
        n=len(labels),
        nll=float(binary_nats(goal.logits(readings).mean(1), values, goal.flip.expand_as(values)).mean()),
        mean_nll=float(_entropy(usual, values).mean()),
        rank=_rank(goal.heads(readings).mean(1).tolist(), values.tolist()),
        length_rank=_rank([float(len(label.answers[0])) for label in labels], values.tolist()),
    )


def _rank(scores: Sequence[float], values: Sequence[float]) -> float | None:
    if len(set(scores)) < 2 or len(set(values)) < 2:
        return None
    return float(spearmanr(scores, values).statistic)
