"""How much a coordinate of the readings has to be worth, and how sure the scores may be: prior and scale under which votes that
were held out are the likeliest.

A tenth of it or ten times of it is right for another model or another number of votes, and the wrong one loses what the readings
know: with the starter model's on SmolLM2's readings a reward model of 900 real pairs is no better than TF-IDF.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

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

SCALES = (2.8, 2.0, 1.4, 0.7, 1.0)
"""Of the scores: where much is chance, a prior that keeps it out makes what is left too small, and the model less sure than it
may be.
"""

SCALE_SPREAD = 0.35
"""Standard deviation of a scale's logarithm in the prior that keeps few votes at 1."""

FOLDS = 5


class Prior(NamedTuple):
    states: float = 1.0
    surprises: float = 1.0
    scale: float = 1.0
    """What the scores are to be multiplied with (temperature scaling: Guo et al. 2017, arXiv:1706.04599)."""


def prior(examples: Sequence[Example], readings: Tensor, settings: RewardSettings) -> Prior:
    """The best of `STRENGTHS` and `SCALES`, the last of those that are as good; `Prior()` with fewer prompts than folds.

    readings: (R, F) of all answers, in order. A prompt's votes are held out together. All strengths and folds are solved at once.
    """
    folds = folds_of([example.prompt_hash for example in examples])
    if len(set(folds)) < FOLDS:
        return Prior()
    ballots = Ballots.of(examples, readings.device)
    heads = Heads(readings.shape[1] - FORM - COUNT, FOLDS * len(STRENGTHS), FORM).to(readings.device)
    heads.strength.copy_(torch.tensor(STRENGTHS).repeat_interleave(FOLDS, 0))
    heads.measure(readings)
    likelihood = Likelihood().to(readings.device)
    likelihood.know(example.metric for example in examples if example.metric)
    held_out = torch.nn.functional.one_hot(torch.tensor(folds), FOLDS).to(readings).repeat(1, len(STRENGTHS))
    solve(heads, likelihood, readings, ballots, 1 - held_out, settings)
    weights, plain = ballots.weights[:, None] * held_out, settings.model_copy(update={"score_penalty": 0.0})
    with torch.no_grad():
        scores = heads(readings)
        nats = [(weights * ballots.nats(scale * scores, likelihood, plain)).sum(0) for scale in SCALES]
    losses = torch.stack(nats).reshape(len(SCALES), len(STRENGTHS), FOLDS).sum(2)
    losses = (losses + losses.new_tensor(SCALES).log()[:, None] ** 2 / (2 * SCALE_SPREAD**2)).flatten()
    scale, strength = divmod(len(losses) - 1 - int(losses.flip(0).argmin()), len(STRENGTHS))
    return Prior(*STRENGTHS[strength], SCALES[scale])


def folds_of(names: Sequence[str]) -> list[int]:
    """A fold for each; equal names are in one, and folds are of like size."""
    places = {name: place % FOLDS for place, name in enumerate(sorted(set(names)))}
    return [places[name] for name in names]
