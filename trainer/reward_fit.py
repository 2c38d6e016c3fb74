"""How a reward model learns: a convex start on states that stand still, then adapter, heads and nuisances by Adam."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ops.settings import RewardSettings
from trainer.ballots import Ballots, flagged_texts
from trainer.examples import Example
from trainer.heads import bootstrap
from trainer.learner import TrainingDiverged
from trainer.linear import objective, solve

if TYPE_CHECKING:
    from trainer.reward import Answered, RewardModel

NUISANCE_RATE = 0.02
"""Learning rate of the few numbers beside the scores, which the linear start has already found."""


class Fit:
    """One training: the lessons as tensors, and the optimizer."""

    def __init__(
        self,
        reward: RewardModel,
        lessons: Sequence[Example],
        rows: Sequence[Answered],
        frozen: Tensor,
        settings: RewardSettings,
        seed: int,
        said: int,
        spoken: int,
    ) -> None:
        """``said``, ``spoken``: how many of the lessons and of the rows, the first ones, are people's."""
        self._reward, self._lessons, self._settings = reward, lessons, settings
        self._said, self._spoken = said, spoken
        self._rows, self._seed = rows, seed
        self._frozen = frozen
        device = reward.model.device
        people = sorted({lesson.rater for lesson in lessons if lesson.is_thumb})
        self._numbers = {rater: number for number, rater in enumerate(people)}
        self._offsets = nn.Parameter(torch.zeros(len(people) + 1, device=device))
        """u of each rater, and the 0 of nobody. It ends with the training: people change, and may be forgotten."""
        self._flagged = flagged_texts(lessons)
        self._takes = bootstrap(lessons).to(device)
        self._ballots = self._ballots_of(range(len(lessons)))

    def run(self) -> list[float]:
        """The mean loss of each epoch. Raises `TrainingDiverged` when one is not finite."""
        reward, settings = self._reward, self._settings
        self._start()
        if reward.trunk == "frozen":
            with torch.no_grad():
                return [self._finite(self._loss(range(len(self._lessons)))).item() / len(self._lessons)]
        weights = [*reward.model.trainable(reward.name), *reward.heads.parameters()]
        nuisances = [*reward.likelihood.parameters(), self._offsets]
        optimizer = torch.optim.Adam(
            [{"params": weights, "lr": settings.learning_rate}, {"params": nuisances, "lr": NUISANCE_RATE}]
        )
        batches = math.ceil(len(self._lessons) / settings.batch_size)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, settings.epochs * batches)
        random = torch.Generator().manual_seed(self._seed)
        losses = []
        for _ in range(settings.epochs):
            order = torch.randperm(len(self._lessons), generator=random).tolist()
            total = 0.0
            for start in range(0, len(order), settings.batch_size):
                batch = order[start : start + settings.batch_size]
                loss = self._finite(self._loss(batch))
                optimizer.zero_grad()
                (loss / len(batch)).backward()
                nn.utils.clip_grad_norm_(weights, 1.0)
                optimizer.step()
                schedule.step()
                total += loss.item()
            losses.append(total / len(order))
        return losses

    def _finite(self, loss: Tensor) -> Tensor:
        if not loss.isfinite():
            raise TrainingDiverged(f"the loss of {self._reward.name!r} is {loss.item()}")
        return loss

    def _start(self) -> None:
        """Heads and nuisances on states that stand still: the frozen model's, or those of the adapter that has learnt before."""
        reward = self._reward
        reward.likelihood.know(lesson.metric for lesson in self._lessons if lesson.metric)
        flips, weights = self._ballots.flips[: self._said], self._ballots.weights[: self._said]
        reward.likelihood.flip.copy_((flips * weights).sum() / weights.sum().clamp(min=1e-9))
        features = self._frozen
        if reward.warm and reward.trunk == "adapter":
            states = reward.states(self._rows)
            features = torch.cat([states, self._frozen[:, states.shape[1] :]], 1)
        reward.heads.measure(features[: self._spoken])
        solve(reward.heads, reward.likelihood, features, self._ballots, self._takes, self._settings, self._offsets)

    def _ballots_of(self, places: Sequence[int]) -> Ballots:
        lessons = [self._lessons[place] for place in places]
        return Ballots.of(lessons, self._reward.model.device, self._numbers, self._flagged)

    def _loss(self, batch: Sequence[int]) -> Tensor:
        """The sum over the batch of weighted losses, nats, the mean of the heads; and the batch's share of the priors."""
        reward = self._reward
        rows = [
            self._rows[row]
            for place in batch
            for row in range(self._ballots.starts[place], self._ballots.starts[place] + len(self._lessons[place].answers))
        ]
        return objective(
            reward.heads,
            reward.likelihood,
            reward.by_head(rows),
            self._ballots_of(batch),
            self._takes[torch.tensor(batch)],
            self._settings,
            self._offsets,
            len(batch) / len(self._lessons),
        )
