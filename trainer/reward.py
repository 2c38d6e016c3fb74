"""What people like, as one number: base model + LoRA adapter + linear heads on the mean of the response tokens' states, and on
how much the answer surprises the base.

The mean learns from fewer votes than the last state. Three heads share the trunk, each on a bootstrap sample of the votes: their
mean judges, their mean less their spread is what reinforcement learning sees, so that it finds nothing where nobody has voted.
The same class under another name, seed and raters is the judge, which the policy is never trained against.

Learning starts on the frozen model's states (see `trainer.linear`), which takes less than a second and few votes; the adapter
learns from there. Our own loop rather than TRL's `RewardTrainer`, which is a loss over rows of chosen and rejected tokens: one
likelihood of pairs with ties, thumbs, rankings, flags and figures, raters' noise, several heads and a convex start would replace
its collator, its loss, its model's head and its evaluation, and leave a `Trainer` of which nothing of TRL's is used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from feedback.raters.population import Population
from ops.settings import RewardSettings
from trainer.adapter_files import AdapterFileError
from trainer.ballots import Ballots, flagged_texts
from trainer.batches import TokenBatch
from trainer.doubt import Ask, doubted
from trainer.examples import Example, Prompt, weighted
from trainer.frozen import FORM, Reader, width
from trainer.heads import HEADS, Heads, bootstrap
from trainer.learner import TrainingDiverged
from trainer.likelihood import Likelihood
from trainer.linear import objective, solve
from trainer.negatives import negatives
from trainer.policy import AdapterModel
from trainer.strength import strength
from trainer.surprise import COUNT, readings, surprises

HEAD_FILE = "head.safetensors"

LONGEST_PROMPT, LONGEST_ANSWER = 768, 256
"""Tokens that are read: the last ones of a prompt, the first ones of an answer."""

ROWS = 256
"""Answers scored at once."""

NUISANCE_RATE = 0.02
"""Learning rate of the few numbers beside the scores, which the linear start has already found."""


Trunk = Literal["adapter", "frozen"]


class Answered(Protocol):
    """An answer as tokens: a `trainer.rollouts.Sample`, or a vote's answer read back."""

    @property
    def prompt_tokens(self) -> Sequence[int]: ...

    @property
    def tokens(self) -> Sequence[int]: ...


@dataclass(frozen=True)
class _Row:
    prompt_tokens: tuple[int, ...]
    tokens: tuple[int, ...]
    surprises: Tensor | None = None
    """Known already, see `trainer.surprise`."""


class RewardModel:
    """s(prompt, answer). Starts at 0 everywhere, or from a folder that `save` has written."""

    def __init__(self, model: AdapterModel, name: str, *, source: Path | None = None, reader: Reader | None = None) -> None:
        """``reader``: shared by models on a frozen trunk. Raises `AdapterFileError` for a folder that is not of this model."""
        model.add(name, source=source)
        self.model, self.name, self.warm = model, name, source is not None
        self.trunk: Trunk = "adapter"
        self.reader = reader or Reader(model)
        self.heads = Heads(model.hidden_size).to(model.device)
        self.likelihood = Likelihood().to(model.device)
        self.people: Population | None = None
        """What the last `fit` found out about its raters, if it asked."""
        if source is not None:
            self._load(source / HEAD_FILE)

    def save(self, folder: Path) -> None:
        """The adapter's files, and `HEAD_FILE` with heads and nuisances. The same weights, the same bytes."""
        self.model.save(self.name, folder)
        tensors = nn.ModuleDict({"heads": self.heads, "likelihood": self.likelihood}).state_dict()
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, folder / HEAD_FILE)

    def _load(self, file: Path) -> None:
        tensors = load_file(file)
        weight = tensors.get("heads.weight")
        self._stand_on("frozen" if weight is not None and weight.shape[-1] == width(self.model) else "adapter")
        known = "likelihood.figures."
        self.likelihood.know(key.removeprefix(known) for key in tensors if key.startswith(known))
        try:
            nn.ModuleDict({"heads": self.heads, "likelihood": self.likelihood}).load_state_dict(tensors)
        except RuntimeError as error:
            self.model.remove(self.name)
            raise AdapterFileError(f"{file}: not the heads of this model; remove the trainer's folder to learn anew") from error

    def _stand_on(self, trunk: Trunk) -> None:
        """Heads that have learnt on the other trunk are of no use on this one."""
        if trunk != self.trunk:
            size, form = (2 * self.model.hidden_size, FORM) if trunk == "frozen" else (self.model.hidden_size, 0)
            self.trunk, self.heads = trunk, Heads(size, form=form).to(self.model.device)

    # scores

    def score(self, answers: Sequence[Answered]) -> Tensor:
        """(B,) float32: the mean of the heads, without any nuisance term."""
        return self.opinions(answers).mean(1)

    def cautious(self, answers: Sequence[Answered]) -> Tensor:
        """(B,) float32: the mean of the heads less their standard deviation, for reinforcement learning. No nuisance either."""
        opinions = self.opinions(answers)
        return opinions.mean(1) - opinions.std(1)

    @torch.no_grad()
    def opinions(self, answers: Sequence[Answered]) -> Tensor:
        """(B, `HEADS`) float32: the score by each of the heads."""
        parts = [self._scores(answers[start : start + ROWS]) for start in range(0, len(answers), ROWS)]
        return torch.cat(parts) if parts else torch.zeros(0, HEADS)

    def score_examples(self, examples: Sequence[Example]) -> list[Tensor]:
        """For each example the scores of its answers, (1,) or (2,), or as many as it ranks."""
        rows = [row for example in examples for row in self._rows(example)]
        return list(self.score(rows).cpu().split([len(example.answers) for example in examples])) if rows else []

    def _scores(self, answers: Sequence[Answered]) -> Tensor:
        """(B, `HEADS`)"""
        if self.trunk == "frozen":
            return self.heads(self._read(answers))
        batch = self._pack(answers)
        return self.heads(torch.cat([self._states(batch), self._surprises(answers, batch)], 1))

    def _states(self, batch: TokenBatch) -> Tensor:
        """(B, H) mean over the response's tokens."""
        states = self.model.response_states(self.name, batch)
        return states.sum(1) / batch.response_lengths.clamp(min=1)[:, None]

    def _pack(self, answers: Sequence[Answered]) -> TokenBatch:
        return TokenBatch.pack(
            [answer.prompt_tokens[-LONGEST_PROMPT:] for answer in answers],
            [answer.tokens[:LONGEST_ANSWER] for answer in answers],
        ).to(self.model.device)

    def _surprises(self, answers: Sequence[Answered], batch: TokenBatch) -> Tensor:
        """(B, 4); an answer that is learnt from brings its own along."""
        known = [answer.surprises for answer in answers if isinstance(answer, _Row) and answer.surprises is not None]
        return torch.stack(known) if len(known) == len(answers) else surprises(self.model, batch)

    # learning

    def fit(self, examples: Sequence[Example], settings: RewardSettings, seed: int, ask: Ask | None = None) -> list[float]:
        """Learn from the examples, weighted so that no rater has too much to say; the mean loss (nats) of each epoch.

        With ``ask``, how far each rater is believed is found out first (see `trainer.doubt`); without, it is what the examples
        say. Raises `TrainingDiverged` when a loss is not finite.
        """
        lessons = weighted(examples)
        if not lessons:
            return []
        taught = negatives(lessons)
        rows = [row for lesson in (*lessons, *taught) for row in self._rows(lesson)]
        spoken = sum(len(lesson.answers) for lesson in lessons)
        self._stand_on(settings.trunk)
        frozen = self._read(rows)
        rows = [replace(row, surprises=own) for row, own in zip(rows, frozen[:, -COUNT:], strict=True)]
        if self.trunk == "frozen":
            self.heads.strength.copy_(torch.tensor(strength(lessons, frozen[:spoken], settings)))
        if ask is not None:
            lessons, self.people = doubted(lessons, frozen[:spoken], settings, ask, self.heads)
        return _Fit(self, [*lessons, *taught], rows, frozen, settings, seed, len(lessons), spoken).run()

    def _read(self, rows: Sequence[Answered]) -> Tensor:
        """(R, H + 4) what the frozen model reads in the answers; more of it (see `trainer.frozen`) where the trunk is frozen."""
        if self.trunk == "frozen":
            return self.reader([(tuple(row.prompt_tokens[-LONGEST_PROMPT:]), tuple(row.tokens[:LONGEST_ANSWER])) for row in rows])
        parts = [readings(self.model, self._pack(rows[start : start + ROWS])) for start in range(0, len(rows), ROWS)]
        return torch.cat([torch.cat(part, 1) for part in parts])

    def _rows(self, example: Example) -> list[_Row]:
        prompt = tuple(encode_prompt(self.model, example.prompt))
        rows = []
        for text, ended in zip(example.answers, example.ended, strict=True):
            tokens = self.model.encode_answer(text)
            rows.append(_Row(prompt, tuple(tokens if ended else tokens[:-1])))
        return rows

    # what is expected of people

    @torch.no_grad()
    def margin(self, example: Example, scores: Tensor) -> float:
        """Of a decided vote: positive where "a" or "up" is right. No position bias; a thumb's offset has to be in it."""
        scores = scores.to(self.model.device)
        return float(scores[0] - scores[1]) if example.is_pair else float(self.likelihood.thumbs(scores)[0])

    @torch.no_grad()
    def expected(self, example: Example, scores: Tensor) -> float:
        """Of a decided vote: the probability of hearing "a" or "up" from a stranger, who may err, and sees a first."""
        scores = scores.to(self.model.device)
        if example.is_pair:
            a, _, b = self.likelihood.pairs(scores[0] - scores[1], float(example.side_by_side))
            lead = a - b
        else:
            lead = self.likelihood.thumbs(scores)[0]
        flip = self.likelihood.flip
        return float((1 - flip) * lead.sigmoid() + flip * (-lead).sigmoid())

    @torch.no_grad()
    def nll(self, examples: Sequence[Example], scores: Sequence[Tensor]) -> list[float]:
        """Nats of each vote as a stranger's, unweighted; both bad and both good count as the tie that they are.

        Left out is a figure of a metric that was not learnt.
        """
        plain = RewardSettings(thumb_weight=1.0, rank_weight=1.0, flag_weight=1.0, score_penalty=0.0)
        known = [
            (replace(example, flip=float(self.likelihood.flip)), own)
            for example, own in zip(examples, scores, strict=True)
            if not example.metric or example.metric in self.likelihood.figures
        ]
        if not known:
            return []
        as_ties = [replace(example, label="tie") if example.label.startswith("both") else example for example, _ in known]
        rows = torch.cat([own for _, own in known]).to(self.model.device)[:, None]
        return Ballots.of(as_ties, self.model.device).nats(rows, self.likelihood, plain)[:, 0].tolist()


class _Fit:
    """One training: the lessons as tensors, and the optimizer."""

    def __init__(
        self,
        reward: RewardModel,
        lessons: Sequence[Example],
        rows: Sequence[_Row],
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
        reward, settings = self._reward, self._settings
        self._start()
        if reward.trunk == "frozen":
            with torch.no_grad():
                return [self._loss(range(len(self._lessons))).item() / len(self._lessons)]
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
                loss = self._loss(batch)
                if not loss.isfinite():
                    raise TrainingDiverged(f"the loss of {reward.name!r} is {loss.item()}")
                optimizer.zero_grad()
                (loss / len(batch)).backward()
                nn.utils.clip_grad_norm_(weights, 1.0)
                optimizer.step()
                schedule.step()
                total += loss.item()
            losses.append(total / len(order))
        return losses

    def _start(self) -> None:
        """Heads and nuisances on states that stand still: the frozen model's, or those of the adapter that has learnt before."""
        reward = self._reward
        reward.likelihood.know(lesson.metric for lesson in self._lessons if lesson.metric)
        flips, weights = self._ballots.flips[: self._said], self._ballots.weights[: self._said]
        reward.likelihood.flip.copy_((flips * weights).sum() / weights.sum().clamp(min=1e-9))
        features = self._frozen
        if reward.warm and reward.trunk == "adapter":
            with torch.no_grad():
                parts = [self._rows[start : start + ROWS] for start in range(0, len(self._rows), ROWS)]
                states = torch.cat([reward._states(reward._pack(part)) for part in parts])
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
            reward._scores(rows),
            self._ballots_of(batch),
            self._takes[torch.tensor(batch)],
            self._settings,
            self._offsets,
            len(batch) / len(self._lessons),
        )


def encode_prompt(model: AdapterModel, prompt: Prompt) -> list[int]:
    """The prompt's tokens, through the model's chat template."""
    return model.encode_prompt([{"role": message.role, "content": message.content} for message in prompt])
