"""What people like, as one number: base model + LoRA adapter + linear head on the mean of the response tokens' states, and on
how much the answer surprises the base.

The mean learns from fewer votes than the last state. The same class under another name, seed and raters is the judge, which
the policy is never trained against. Our own loop rather than TRL's RewardTrainer: pairs, ties and thumbs share one likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ops.settings import RewardSettings
from trainer.batches import TokenBatch
from trainer.examples import Example, Prompt, weighted
from trainer.learner import TrainingDiverged
from trainer.likelihood import SIDES, Likelihood
from trainer.policy import AdapterModel
from trainer.surprise import SurpriseHead, surprises

HEAD_FILE = "head.safetensors"

LONGEST_PROMPT, LONGEST_ANSWER = 768, 256
"""Tokens that are read: the last ones of a prompt, the first ones of an answer."""

ROWS = 256
"""Answers scored at once."""

SCALAR_RATE = 0.05
"""Learning rate of the few numbers that count for much: the surprises' weights, and the nuisances."""


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

    def __init__(self, model: AdapterModel, name: str, *, source: Path | None = None) -> None:
        model.add(name, source=source)
        self.model, self.name = model, name
        self.head = nn.Linear(model.hidden_size, 1, bias=False, device=model.device)
        nn.init.zeros_(self.head.weight)
        self.surprise = SurpriseHead().to(model.device)
        self.likelihood = Likelihood().to(model.device)
        if source is not None:
            self._heads.load_state_dict(load_file(source / HEAD_FILE))

    @property
    def _heads(self) -> nn.ModuleDict:
        """All that is learnt beside the adapter."""
        return nn.ModuleDict({"head": self.head, "surprise": self.surprise, "likelihood": self.likelihood})

    def save(self, folder: Path) -> None:
        """The adapter's files, and `HEAD_FILE` with head and nuisances. The same weights, the same bytes."""
        self.model.save(self.name, folder)
        tensors = self._heads.state_dict()
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, folder / HEAD_FILE)

    # scores

    @torch.no_grad()
    def score(self, answers: Sequence[Answered]) -> Tensor:
        """(B,) float32, without any nuisance term."""
        parts = [self._scores(answers[start : start + ROWS]) for start in range(0, len(answers), ROWS)]
        return torch.cat(parts) if parts else torch.zeros(0)

    def score_examples(self, examples: Sequence[Example]) -> list[Tensor]:
        """For each example the scores of its answers, (1,) or (2,)."""
        rows = [row for example in examples for row in self._rows(example)]
        return list(self.score(rows).cpu().split([len(example.answers) for example in examples])) if rows else []

    def _scores(self, answers: Sequence[Answered]) -> Tensor:
        batch = self._pack(answers)
        states = self.model.response_states(self.name, batch)
        mean = states.sum(1) / batch.response_lengths.clamp(min=1)[:, None]
        return self.head(mean)[:, 0] + self.surprise(self._surprises(answers, batch))

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

    def fit(self, examples: Sequence[Example], settings: RewardSettings, seed: int) -> list[float]:
        """Learn from the examples, weighted so that no rater has too much to say; the mean loss (nats) of each epoch.

        Raises `TrainingDiverged` when a loss is not finite.
        """
        lessons = weighted(examples)
        if not lessons:
            return []
        rows = {lesson.feedback_id: self._informed(self._rows(lesson)) for lesson in lessons}
        self.surprise.measure(torch.stack([row.surprises for answers in rows.values() for row in answers]))
        weights = [*self.model.trainable(self.name), *self.head.parameters()]
        scalars = [*self.surprise.parameters(), *self.likelihood.parameters()]
        optimizer = torch.optim.Adam([{"params": weights, "lr": settings.learning_rate}, {"params": scalars, "lr": SCALAR_RATE}])
        schedule = torch.optim.lr_scheduler.LinearLR(
            optimizer, 1.0, 0.1, settings.epochs * math.ceil(len(lessons) / settings.batch_size)
        )
        random = torch.Generator().manual_seed(seed)
        losses = []
        for _ in range(settings.epochs):
            order = torch.randperm(len(lessons), generator=random).tolist()
            total = 0.0
            for start in range(0, len(order), settings.batch_size):
                batch = [lessons[place] for place in order[start : start + settings.batch_size]]
                loss = self._loss(batch, [rows[lesson.feedback_id] for lesson in batch], settings)
                if not loss.isfinite():
                    raise TrainingDiverged(f"the loss of {self.name!r} is {loss.item()}")
                optimizer.zero_grad()
                (loss / len(batch)).backward()
                nn.utils.clip_grad_norm_(weights, 1.0)
                optimizer.step()
                schedule.step()
                total += loss.item()
            losses.append(total / len(order))
        return losses

    def _loss(self, batch: Sequence[Example], rows: Sequence[list[_Row]], settings: RewardSettings) -> Tensor:
        """The sum over the batch of weighted losses, nats."""
        scores = self._scores([row for answers in rows for row in answers]).split([len(answers) for answers in rows])
        pairs = [place for place, example in enumerate(batch) if example.is_pair]
        thumbs = [place for place, example in enumerate(batch) if not example.is_pair]
        loss = self.head.weight.new_zeros(())
        if pairs:
            two = torch.stack([scores[place] for place in pairs])
            losses = self.likelihood.pair_loss(two, *_sides([batch[p] for p in pairs], two), thumb_weight=settings.thumb_weight)
            losses = losses + settings.score_penalty * two.sum(1) ** 2
            loss = loss + (losses * _weights([batch[p] for p in pairs], two)).sum()
        if thumbs:
            one = torch.cat([scores[place] for place in thumbs])
            up = one.new_tensor([float(batch[place].label == "up") for place in thumbs])
            losses = self.likelihood.thumb_loss(one, up)
            loss = loss + settings.thumb_weight * (losses * _weights([batch[p] for p in thumbs], one)).sum()
        return loss

    @torch.no_grad()
    def nll(self, examples: Sequence[Example], scores: Sequence[Tensor]) -> list[float]:
        """Nats of each vote as it was said, unweighted; both-bad counts as the tie that it is."""
        nats = []
        for example, score in zip(examples, scores, strict=True):
            score = score.to(self.head.weight.device)
            if example.is_pair:
                sides, _ = _sides([example], score)
                nats.append(-self.likelihood.pairs(score[:1] - score[1:])[0, sides[0]].item())
            else:
                nats.append(self.likelihood.thumb_loss(score, score.new_tensor([float(example.label == "up")]))[0].item())
        return nats

    def _informed(self, rows: list[_Row]) -> list[_Row]:
        """The rows with their surprises, which no learning changes."""
        batch = self._pack(rows)
        return [replace(row, surprises=values) for row, values in zip(rows, surprises(self.model, batch), strict=True)]

    def _rows(self, example: Example) -> list[_Row]:
        prompt = tuple(encode_prompt(self.model, example.prompt))
        rows = []
        for text, ended in zip(example.answers, example.ended, strict=True):
            tokens = self.model.encode_answer(text)
            rows.append(_Row(prompt, tuple(tokens if ended else tokens[:-1])))
        return rows


def encode_prompt(model: AdapterModel, prompt: Prompt) -> list[int]:
    """The prompt's tokens, through the model's chat template."""
    return model.encode_prompt([{"role": message.role, "content": message.content} for message in prompt])


def _sides(pairs: Sequence[Example], like: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) index into `SIDES` of what was said, and (B,) 1 where it was "both bad"."""
    sides = [SIDES.index("tie" if pair.label == "both_bad" else pair.label) for pair in pairs]
    bad = [float(pair.label == "both_bad") for pair in pairs]
    return torch.tensor(sides, device=like.device), like.new_tensor(bad)


def _weights(examples: Sequence[Example], like: Tensor) -> Tensor:
    return like.new_tensor([example.weight for example in examples])
