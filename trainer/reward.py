"""What people like, as one number: base model + LoRA adapter + linear heads on the mean of the response tokens' states, and on
how much the answer surprises the base.

The mean learns from fewer votes than the last state. Three heads share the trunk, each on a bootstrap sample of the votes: their
mean judges, their mean less their spread is what reinforcement learning sees, so that it finds nothing where nobody has voted;
there an operator's style goals are added, which have heads of their own (see `trainer.goals`).
The same class under another name, seed and raters is the judge, which the policy is never trained against.

Learning starts on the frozen model's states (see `trainer.linear`), which takes less than a second and few votes; the adapter
learns from there (`trainer.reward_fit`). Our own loop rather than TRL's `RewardTrainer`, which is a loss over rows of chosen and
rejected tokens: one likelihood of pairs with ties, thumbs, rankings, flags and figures, raters' noise, several heads and a convex
start would replace its collator, its loss, its model's head and its evaluation, and leave a `Trainer` with nothing of TRL's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from feedback.raters.population import Population
from ops.settings import RewardSettings
from trainer.adapter_files import AdapterFileError
from trainer.ballots import Ballots
from trainer.batches import TokenBatch
from trainer.doubt import Ask, doubted, settled
from trainer.examples import Example, Prompt, parted, weighted
from trainer.frozen import FORM, Reader, width
from trainer.goals import Goal, NoGoal, learn_goal
from trainer.heads import HEADS, Heads
from trainer.learner import TrainingDiverged
from trainer.likelihood import Likelihood
from trainer.negatives import negatives
from trainer.policy import AdapterModel
from trainer.reward_fit import Fit
from trainer.strength import Prior, prior
from trainer.surprise import COUNT, readings, surprises

HEAD_FILE = "head.safetensors"
_GOALS = "goals."

LONGEST_PROMPT, LONGEST_ANSWER = 768, 256
"""Tokens that are read: the last ones of a prompt, the first ones of an answer."""

ROWS = 256
"""Answers scored at once."""

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
        self.goals: dict[str, Goal] = {}
        """By metric, those that are in the reward."""
        self.left_out: dict[str, tuple[float, str]] = {}
        """The others that the last `fit` was asked for: weight, and why not."""
        self.people: Population | None = None
        """What the last `fit` found out about its raters, if it asked."""
        if source is not None:
            self._load(source / HEAD_FILE)

    def save(self, folder: Path) -> None:
        """The adapter's files, and `HEAD_FILE` with heads, nuisances and goals. The same weights, the same bytes."""
        self.model.save(self.name, folder)
        tensors = nn.ModuleDict({"heads": self.heads, "likelihood": self.likelihood}).state_dict()
        for metric, goal in self.goals.items():
            tensors |= {f"{_GOALS}{metric}.{key}": tensor for key, tensor in goal.state_dict().items()}
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, folder / HEAD_FILE)

    def _load(self, file: Path) -> None:
        tensors = load_file(file)
        weight = tensors.get("heads.weight")
        self._stand_on("frozen" if weight is not None and weight.shape[-1] == width(self.model) else "adapter")
        self.likelihood.know(self.likelihood.metrics_in(tensors, "likelihood."))
        goals = {key: tensors.pop(key) for key in list(tensors) if key.startswith(_GOALS)}
        try:
            nn.ModuleDict({"heads": self.heads, "likelihood": self.likelihood}).load_state_dict(tensors)
            for metric in sorted({key.removeprefix(_GOALS).split(".")[0] for key in goals}):
                own = f"{_GOALS}{metric}."
                self.goals[metric] = Goal(self.heads.weight.shape[1]).to(self.model.device)
                self.goals[metric].load_state_dict({k.removeprefix(own): v for k, v in goals.items() if k.startswith(own)})
        except RuntimeError as error:
            self.model.remove(self.name)
            raise AdapterFileError(f"{file}: not the heads of this model") from error

    def _stand_on(self, trunk: Trunk) -> None:
        """Heads that have learnt on the other trunk are of no use on this one."""
        if trunk != self.trunk:
            size, form = (2 * self.model.hidden_size, FORM) if trunk == "frozen" else (self.model.hidden_size, 0)
            self.trunk, self.heads = trunk, Heads(size, form=form).to(self.model.device)

    # scores

    def score(self, answers: Sequence[Answered]) -> Tensor:
        """(B,) float32: the mean of the heads, without any nuisance term."""
        return self.opinions(answers).mean(1)

    @torch.no_grad()
    def cautious(self, answers: Sequence[Answered]) -> Tensor:
        """(B,) float32: the mean of the heads less their standard deviation, and the goals' pulls (`trainer.goals`), for
        reinforcement learning. No nuisance either.
        """
        parts = [self._cautious(self.heads(read), read) for read in self._all_readings(answers)]
        return torch.cat(parts) if parts else torch.zeros(0)

    def _cautious(self, opinions: Tensor, read: Tensor) -> Tensor:
        return sum((goal.pull(read) for goal in self.goals.values()), opinions.mean(1) - opinions.std(1))

    @torch.no_grad()
    def opinions(self, answers: Sequence[Answered]) -> Tensor:
        """(B, `HEADS`) float32: the score by each of the heads."""
        parts = [self.heads(read) for read in self._all_readings(answers)]
        return torch.cat(parts) if parts else torch.zeros(0, HEADS)

    def score_examples(self, examples: Sequence[Example]) -> list[Tensor]:
        """For each example the scores of its answers, (1,) or (2,), or as many as it ranks."""
        rows = [row for example in examples for row in self._rows(example)]
        return list(self.score(rows).cpu().split([len(example.answers) for example in examples])) if rows else []

    def by_head(self, answers: Sequence[Answered]) -> Tensor:
        """(B, `HEADS`) to learn from, all at once: the other scores have no gradients."""
        return self.heads(self._readings(answers))

    def _all_readings(self, answers: Sequence[Answered]) -> Iterator[Tensor]:
        return map(self._readings, _parts(answers))

    def _readings(self, answers: Sequence[Answered]) -> Tensor:
        """(B, F) what the heads read."""
        if self.trunk == "frozen":
            return self._read(answers)
        batch = self._pack(answers)
        return torch.cat([self._states(batch), self._surprises(answers, batch)], 1)

    @torch.no_grad()
    def read_first(self, examples: Sequence[Example]) -> Tensor:
        """(N, F) what the heads read in each example's first answer."""
        rows = [self._rows(example)[0] for example in examples]
        parts = list(self._all_readings(rows))
        return torch.cat(parts) if parts else torch.zeros(0, self.heads.weight.shape[1], device=self.model.device)

    @torch.no_grad()
    def states(self, answers: Sequence[Answered]) -> Tensor:
        """(B, H) by the adapter as it is now: mean over the response's tokens."""
        return torch.cat([self._states(self._pack(part)) for part in _parts(answers)])

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
        """(B, `COUNT`); an answer that is learnt from brings its own along."""
        known = [answer.surprises for answer in answers if isinstance(answer, _Row) and answer.surprises is not None]
        return torch.stack(known) if len(known) == len(answers) else surprises(self.model, batch)

    # learning

    def fit(self, examples: Sequence[Example], settings: RewardSettings, seed: int, ask: Ask | None = None) -> list[float]:
        """Learn from the examples, weighted so that no rater has too much to say; the mean loss (nats) of each epoch.

        With ``ask``, how far each rater is believed is found out first (see `trainer.doubt`); without, it is what the examples
        say. Scores of the goals' metrics teach the goals alone, once the rest is learnt. Raises `TrainingDiverged` when a loss is
        not finite, or what the base reads.
        """
        preferences, labels = parted(examples, settings.goals)
        losses = self._fit_preferences(preferences, settings, seed, ask)
        self._fit_goals(labels, settings.goals)
        return losses

    def _fit_goals(self, labels: Sequence[Example], goals: Mapping[str, float]) -> None:
        self.goals, self.left_out = {}, {}
        for metric, weight in sorted(goals.items()):
            own = weighted([label for label in labels if label.metric == metric])
            own = [replace(label, flip=self.heard(label)) for label in own]
            try:
                self.goals[metric] = learn_goal(own, self.read_first(own), weight)
            except NoGoal as reason:
                self.left_out[metric] = (weight, str(reason))

    def _fit_preferences(self, examples: Sequence[Example], settings: RewardSettings, seed: int, ask: Ask | None) -> list[float]:
        lessons = weighted(examples)
        if not lessons:
            return []
        taught = negatives(lessons)
        rows = [row for lesson in (*lessons, *taught) for row in self._rows(lesson)]
        spoken = sum(len(lesson.answers) for lesson in lessons)
        self._stand_on(settings.trunk)
        frozen = self._read(rows)
        if not frozen.isfinite().all():
            raise TrainingDiverged(f"what the base reads for {self.name!r} in the answers is not finite")
        rows = [replace(row, surprises=own) for row, own in zip(rows, frozen[:, -COUNT:], strict=True)]
        found = Prior()
        if self.trunk == "frozen":
            if ask is None:
                found = prior(lessons, frozen[:spoken], settings)
            else:
                lessons, self.people, found = settled(lessons, frozen[:spoken], settings, ask, self.heads)
            self.heads.hold(found.states, found.surprises)
        elif ask is not None:
            lessons, self.people, _ = doubted(lessons, frozen[:spoken], settings, ask, self.heads)
        losses = Fit(self, [*lessons, *taught], rows, frozen, settings, seed, len(lessons), spoken).run()
        self.heads.weight.data *= found.scale
        return losses

    def _read(self, rows: Sequence[Answered]) -> Tensor:
        """(R, H + `COUNT`) what the frozen model reads in the answers; where it is the trunk, more (see `trainer.frozen`)."""
        if self.trunk == "frozen":
            return self.reader([(tuple(row.prompt_tokens[-LONGEST_PROMPT:]), tuple(row.tokens[:LONGEST_ANSWER])) for row in rows])
        return torch.cat([torch.cat(readings(self.model, self._pack(part)), 1) for part in _parts(rows)])

    def _rows(self, example: Example) -> list[_Row]:
        prompt = tuple(encode_prompt(self.model, example.prompt))
        rows = []
        for text, ended in zip(example.answers, example.ended, strict=True):
            tokens = self.model.encode_answer(text)
            rows.append(_Row(prompt, tuple(tokens if ended else tokens[:-1])))
        return rows

    # what is expected of people

    def heard(self, example: Example) -> float:
        """Epsilon, as the rater was found out to be while this learnt; what the example says, where nobody was asked about."""
        return example.flip if self.people is None else self.people.heard(example.rater)

    @torch.no_grad()
    def margin(self, example: Example, scores: Tensor) -> float:
        """Of a decided vote: positive where "a" or "up" is right. No position bias; a thumb's offset has to be in it."""
        scores = scores.to(self.model.device)
        return float(scores[0] - scores[1]) if example.is_pair else float(self.likelihood.thumbs(scores)[0])

    @torch.no_grad()
    def expected(self, example: Example, scores: Tensor, flip: float | None = None) -> float:
        """Of a decided vote: the probability of hearing "a" or "up" from somebody who errs as often as ``flip``, or as a stranger
        does, and sees a first.
        """
        scores = scores.to(self.model.device)
        if example.is_pair:
            a, _, b = self.likelihood.pairs(scores[0] - scores[1], float(example.side_by_side))
            lead = a - b
        else:
            lead = self.likelihood.thumbs(scores)[0]
        errs = float(self.likelihood.flip) if flip is None else flip
        return float((1 - errs) * lead.sigmoid() + errs * (-lead).sigmoid())

    @torch.no_grad()
    def nll(self, examples: Sequence[Example], scores: Sequence[Tensor]) -> list[float]:
        """Nats of each vote as a stranger's, unweighted; both bad and both good count as the tie that they are.

        Left out is a figure of a metric that was not learnt.
        """
        plain = RewardSettings(thumb_weight=1.0, rank_weight=1.0, flag_weight=1.0, score_penalty=0.0)
        known = [
            (replace(example, flip=float(self.likelihood.flip)), own)
            for example, own in zip(examples, scores, strict=True)
            if not example.metric or example.metric in self.likelihood.metrics
        ]
        if not known:
            return []
        as_ties = [replace(example, label="tie") if example.label.startswith("both") else example for example, _ in known]
        rows = torch.cat([own for _, own in known]).to(self.model.device)[:, None]
        return Ballots.of(as_ties, self.model.device).nats(rows, self.likelihood, plain)[:, 0].tolist()


def _parts(answers: Sequence[Answered]) -> list[Sequence[Answered]]:
    return [answers[start : start + ROWS] for start in range(0, len(answers), ROWS)]


def encode_prompt(model: AdapterModel, prompt: Prompt) -> list[int]:
    """The prompt's tokens, through the model's chat template."""
    return model.encode_prompt([{"role": message.role, "content": message.content} for message in prompt])
