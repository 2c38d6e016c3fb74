"""How much a coordinate of the readings has to be worth: the prior under which votes that were held out are the likeliest.

A tenth of it or ten times of it is right for another model or another number of votes, and the wrong one loses what the readings
know: with the starter model's on SmolLM2's readings a reward model of 900 real pairs is no better than TF-IDF.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ops.settings import RewardSettings
from trainer.ballots import Ballots
from trainer.examples import Example
from trainer.frozen import FORM
from trainer.heads import Heads
from trainer.likelihood import Likelihood
from trainer.linear import solve
from trainer.surprise import COUNT

STRENGTHS = tuple((states, surprises) for surprises in (1.0, 1000.0) for states in (1.0, 3.0, 10.0, 30.0, 100.0, 300.0))
"""Multiples of the heads' own priors (see `trainer.heads`) of states and of surprises, which some do not care for at all."""

FOLDS = 5


def strength(examples: Sequence[Example], readings: Tensor, settings: RewardSettings) -> tuple[float, float]:
    """One of `STRENGTHS`, the last of those that are as good; (1, 1) where there are fewer prompts than folds.

    readings: (R, F) of all answers, in order. A prompt's votes are held out together. All strengths and folds are solved at once.
    """
    folds = folds_of([example.prompt_hash for example in examples])
    if len(set(folds)) < FOLDS:
        return 1.0, 1.0
    ballots = Ballots.of(examples, readings.device)
    heads = Heads(readings.shape[1] - FORM - COUNT, FOLDS * len(STRENGTHS), FORM).to(readings.device)
    heads.strength.copy_(torch.tensor(STRENGTHS).repeat_interleave(FOLDS, 0))
    heads.measure(readings)
    likelihood = Likelihood().to(readings.device)
    likelihood.know(example.metric for example in examples if example.metric)
    held_out = torch.nn.functional.one_hot(torch.tensor(folds), FOLDS).to(readings).repeat(1, len(STRENGTHS))
    solve(heads, likelihood, readings, ballots, 1 - held_out, settings)
    with torch.no_grad():
        nats = ballots.weights[:, None] * held_out * ballots.nats(heads(readings), likelihood, settings)
    losses = nats.sum(0).reshape(len(STRENGTHS), FOLDS).sum(1)
    return STRENGTHS[len(STRENGTHS) - 1 - int(losses.flip(0).argmin())]


def folds_of(names: Sequence[str]) -> list[int]:
    """A fold for each; equal names are in one, and folds are of like size."""
    places = {name: place % FOLDS for place, name in enumerate(sorted(set(names)))}
    return [places[name] for name in names]
