"""Whom to believe how far: what heads that never saw a rater's votes expect of them, beside overlap and golden items.

EM between the two questions "what is liked?" and "who says the opposite of it?" (Raykar et al. 2010,
jmlr.org/papers/v11/raykar10a.html), on the readings of the frozen model: there a fit takes a fraction of a second, so it costs
next to nothing beside the training.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from math import log
from typing import NamedTuple

import torch
from torch import Tensor

from feedback.join import Vote
from feedback.raters.flips import flips_of
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

_LEAST = 1e-6
"""Nothing that was said is held less probable."""

Ask = Callable[[Mapping[str, float], Collection[str]], Population]
"""What is known of the raters, given how probable each vote (by feedback id) was held, and without the votes of these ids."""


class Heard(NamedTuple):
    """``examples`` have each one's ``flip`` by what is known of the ``people``; ``foretold`` says, by feedback id, how probable
    each decided vote was held by a head that did not learn from it (nor, with enough raters, from any of its rater's).
    """

    examples: list[Example]
    people: Population
    foretold: dict[str, float]


def asking(votes: Sequence[Vote]) -> Ask:
    """Golden items, overlap among the votes, and what is foretold of them."""

    def ask(foretold: Mapping[str, float], without: Collection[str] = ()) -> Population:
        return flips_of([vote for vote in votes if vote.feedback_id not in without], foretold)

    return ask


def doubted(
    examples: Sequence[Example], readings: Tensor, settings: RewardSettings, ask: Ask, like: Heads | None = None
) -> Heard:
    """The examples as they are to be heard, by all that is known of their raters.

    readings: (R, F) of all answers, read as the heads ``like`` read them, whose priors are taken too.
    """
    folds = _folds(examples)
    heads = Heads(readings.shape[1] - COUNT, FOLDS) if like is None else like.others(FOLDS)
    heads, likelihood = heads.to(readings.device), Likelihood().to(readings.device)
    likelihood.know(example.metric for example in examples if example.metric)
    heads.measure(readings)
    takes = torch.ones(len(examples), FOLDS, device=readings.device)
    takes[torch.arange(len(examples)), folds] = 0
    current, people, foretold = list(examples), ask({}, ()), dict[str, float]()
    for _ in range(ROUNDS):
        ballots = Ballots.of(current, readings.device)
        solve(heads, likelihood, readings, ballots, takes, settings, steps=STEPS)
        foretold = _foretold(ballots, heads, likelihood, readings, folds)
        people = ask(foretold, ())
        current = [replace(example, flip=people.heard(example.rater)) for example in examples]
    return Heard(current, people, foretold)


def settled(
    examples: Sequence[Example], readings: Tensor, settings: RewardSettings, ask: Ask, like: Heads
) -> tuple[list[Example], Population, Prior]:
    """As `doubted`, and the prior for heads that learn from the examples as they are heard then. Changes ``like``'s strengths.

    Where many vote reversed, votes that are all believed look like chance: a prior chosen by them leaves nothing to foretell
    with, and nobody is doubted. So this is tried twice, with that prior and with the plain one; the one under which votes are the
    likelier (`surprise_of`) is taken.
    """
    tried = []
    for begun in (prior(examples, readings, settings), Prior()):
        like.hold(begun.states, begun.surprises)
        heard = doubted(examples, readings, settings, ask, like)
        tried.append((surprise_of(heard, ask), heard))
    _, best = min(tried, key=lambda each: each[0])
    return best.examples, best.people, prior(best.examples, readings, settings)


def surprise_of(heard: Heard, ask: Ask) -> float:
    """Nats a decided vote, by their weights: each half of the votes is foretold without any vote of that half.

    So neither who is sure of what is chance, nor who finds for each rater the excuse that fits, gains anything by it.
    """
    spoken = [example for example in heard.examples if example.feedback_id in heard.foretold]
    nats = 0.0
    for half in (True, False):
        tested = [example for example in spoken if _first_half(example.feedback_id) == half]
        people = ask(heard.foretold, {example.feedback_id for example in tested})
        for example in tested:
            flip, likely = people.flips.get(example.rater, people.mean), heard.foretold[example.feedback_id]
            nats -= example.weight * log(max(_LEAST, (1 - flip) * likely + flip * (1 - likely)))
    return nats / (sum(example.weight for example in spoken) or 1.0)


def _first_half(feedback_id: str) -> bool:
    return unit_interval("half", feedback_id) < 0.5


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
