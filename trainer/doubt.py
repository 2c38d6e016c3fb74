"""Whom to believe how far: what heads that never saw a rater's votes expect of them, beside overlap and golden items.

EM between the two questions "what is liked?" and "who says the opposite of it?" (Raykar et al. 2010,
jmlr.org/papers/v11/raykar10a.html), on the readings of the frozen model: there a fit takes a fraction of a second, so it costs
next to nothing beside the training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from feedback.raters.population import Population
from ops.settings import RewardSettings
from trainer.ballots import Ballots
from trainer.examples import FEW_RATERS, Example, unit_interval
from trainer.heads import Heads
from trainer.likelihood import SIDES, Likelihood
from trainer.linear import solve
from trainer.strength import Prior, prior
from trainer.surprise import COUNT

FOLDS = 5
ROUNDS = 3
STEPS = 30
"""Of L-BFGS in each round, which goes on from the last one's heads."""

Ask = Callable[[dict[str, float]], Population]
"""What is known of the raters, given how probable each vote (by feedback id) was held: `feedback.raters.flips.flips_of`."""


def doubted(
    examples: Sequence[Example], readings: Tensor, settings: RewardSettings, ask: Ask, like: Heads | None = None
) -> tuple[list[Example], Population]:
    """The examples with each one's ``flip`` by all that is known, and that knowledge.

    readings: (R, F) of all answers, read as the heads ``like`` read them, whose priors are taken too.
    """
    folds = _folds(examples)
    heads = Heads(readings.shape[1] - COUNT, FOLDS) if like is None else like.others(FOLDS)
    heads, likelihood = heads.to(readings.device), Likelihood().to(readings.device)
    likelihood.know(example.metric for example in examples if example.metric)
    heads.measure(readings)
    takes = torch.ones(len(examples), FOLDS, device=readings.device)
    takes[torch.arange(len(examples)), folds] = 0
    current, people = list(examples), ask({})
    for _ in range(ROUNDS):
        ballots = Ballots.of(current, readings.device)
        solve(heads, likelihood, readings, ballots, takes, settings, steps=STEPS)
        people = ask(_foretold(ballots, heads, likelihood, readings, folds))
        current = [replace(example, flip=people.heard(example.rater)) for example in examples]
    return current, people


def settled(
    examples: Sequence[Example], readings: Tensor, settings: RewardSettings, ask: Ask, like: Heads
) -> tuple[list[Example], Population, Prior]:
    """As `doubted`, and the prior for heads that learn from the examples as they are heard then. Changes ``like``'s strengths.

    Where many vote reversed, votes that are all believed look like chance: a prior chosen by them leaves nothing to foretell
    with, and nobody is doubted. So this begins twice, with that prior and with the plain one; what makes held-out votes the
    likelier in the end is taken.
    """
    found = []
    for begun in (prior(examples, readings, settings), Prior()):
        like.hold(begun.states, begun.surprises)
        heard, people = doubted(examples, readings, settings, ask, like)
        found.append((heard, people, prior(heard, readings, settings)))
    return min(found, key=lambda each: each[2].nats)


def _folds(examples: Sequence[Example]) -> Tensor:
    """(N,) the fold that each example is left out of: all of a rater's votes from one, with few raters all on a prompt."""
    by_rater = len({example.rater for example in examples}) >= FEW_RATERS
    keys = [example.rater if by_rater else example.prompt_hash for example in examples]
    return torch.tensor([int(unit_interval("fold", key) * FOLDS) for key in keys], dtype=torch.long)


@torch.no_grad()
def _foretold(ballots: Ballots, heads: Heads, likelihood: Likelihood, readings: Tensor, folds: Tensor) -> dict[str, float]:
    """For each decided vote the probability of what was said against its opposite, by the head that did not learn from it."""
    scores = heads(readings)
    foretold = {}
    for place, (example, start) in enumerate(zip(ballots.examples, ballots.starts, strict=True)):
        if not example.sign:
            continue
        own = scores[start : start + len(example.answers), folds[place]]
        if example.is_pair:
            logs = likelihood.pairs(own[0] - own[1], float(example.side_by_side))
            lead = logs[SIDES.index("a")] - logs[SIDES.index("b")]
        else:
            lead = likelihood.thumbs(own[0])
        foretold[example.feedback_id] = float(torch.sigmoid(example.sign * lead))
    return foretold
