"""Reinforcement learning of the adapter "policy": roll out, score, compare with the reference, update; PPO or RLOO.

RLOO is the same loop without a critic: a sequence's advantage is its reward less that of its prompt's other samples.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ops.settings import PpoSettings
from trainer import ppo
from trainer.batches import TokenBatch
from trainer.experience import Experience
from trainer.holds import holds_of
from trainer.learner import POLICY, VALUE, Critic, Learner, Metrics, TrainingDiverged
from trainer.parallel import ALONE, Crew
from trainer.policy import BASE, AdapterModel
from trainer.rollouts import RolloutSource, Sample

__all__ = ["ImproveResult", "TrainingDiverged", "improve"]

Score = Callable[[Sequence[Sample]], Tensor]


Ended = Literal["steps", "time", "kl"]


@dataclass(frozen=True)
class ImproveResult:
    """``steps``: the metrics of every step, in order. ``kl_coef``: the KL coefficient after the last one. ``ended_by``: what
    ended them; "kl" is settings.max_kl.
    """

    steps: list[Metrics]
    kl_coef: float
    ended_by: Ended


def improve(
    model: AdapterModel,
    prompts: Sequence[Sequence[int]],
    score: Score,
    *,
    settings: PpoSettings,
    algorithm: Literal["ppo", "rloo"],
    rollouts: RolloutSource,
    seed: int,
    reference: str,
    on_step: Callable[[Metrics], None] = lambda metrics: None,
    resume: dict[str, Any] | None = None,
    keep: Callable[[int, dict[str, Any]], None] = lambda steps, state: None,
    keep_every: int = 0,
    crew: Crew = ALONE,
) -> ImproveResult:
    """Train the adapter "policy" in place towards higher ``score``, held near ``reference`` (an adapter's name or "base").

    ``score`` gives (B,) for B samples, in any unit: it is read in standard deviations of the first batch, which the policy
    of the start has made. A critic that is made here is gone at the end. Ends after settings.steps, when the time budget is
    spent, or with a step, not learnt from, whose answers are more than settings.max_kl away from ``reference``. Raises
    `TrainingDiverged`, and what ``rollouts`` and ``score`` raise.

    After every ``keep_every`` steps (0: never) ``keep`` is given their number and the state; called with it as ``resume``, and
    all else as it was, the same adapter comes of it as if there had been no break.
    """
    if not prompts:
        raise ValueError("no prompts to learn from")
    started, held = time.monotonic(), model.names
    steps: list[Metrics] = []
    loop: _Loop | None = None
    try:
        loop = _Loop(model, score, settings, rollouts, reference, Critic(model) if algorithm == "ppo" else None, seed, crew)
        order = _Order(len(prompts), loop.random)
        if resume is not None:
            steps, order.left = list(resume["steps"]), list(resume["left"])
            started -= resume["elapsed_s"]
            loop.load_state_dict(resume["loop"])
        while (ended := _ended(settings, steps, time.monotonic() - started)) is None:
            steps.append(loop.step([list(prompts[order.next()]) for _ in range(settings.prompts_per_step)]))
            if keep_every and len(steps) % keep_every == 0:
                elapsed = time.monotonic() - started
                keep(len(steps), {"steps": steps, "left": order.left, "elapsed_s": elapsed, "loop": loop.state_dict()})
            on_step(steps[-1])
    finally:
        if loop is not None:
            loop.learner.done()
        if VALUE in model.names and VALUE not in held:
            model.remove(VALUE)
    return ImproveResult(steps, loop.kl_coef, ended)


def _ended(settings: PpoSettings, steps: Sequence[Metrics], elapsed_s: float) -> Ended | None:
    """Why there is no further step; None while there is."""
    if steps and _too_far(settings, steps[-1]):
        return "kl"
    if len(steps) >= settings.steps:
        return "steps"
    return "time" if steps and elapsed_s >= settings.time_budget_s else None


def _too_far(settings: PpoSettings, step: Metrics) -> bool:
    return settings.max_kl is not None and step["objective/kl"] > settings.max_kl


class _Order:
    """The places of all prompts in a random order, then all again in another."""

    def __init__(self, count: int, random: torch.Generator) -> None:
        self._count, self._random = count, random
        self.left: list[int] = []

    def next(self) -> int:
        if not self.left:
            self.left = torch.randperm(self._count, generator=self._random).tolist()
        return self.left.pop(0)


class _Scale(NamedTuple):
    """How scores are read: what the first batch, which the policy of the start has made, says of them."""

    mean: float
    std: float
    slope: float
    """By how much they rise with each token; 0 unless that is to be taken out."""
    length: float

    @classmethod
    def of(cls, scores: Tensor, lengths: Tensor, *, residual: bool) -> _Scale:
        slope, length = ppo.length_slope(scores, lengths) if residual else 0.0, lengths.float().mean().item()
        left = scores - slope * (lengths - length)
        mean, std = left.mean().item(), left.std(correction=0).item()
        if std <= 1e-6:  # one sample, or no difference: the score as it is
            mean, std = 0.0, 1.0
        return cls(mean, std, slope, length)


class _Loop:
    """What lasts from step to step: the learner, the KL coefficient, the scale of the score, the random numbers."""

    def __init__(
        self,
        model: AdapterModel,
        score: Score,
        settings: PpoSettings,
        rollouts: RolloutSource,
        reference: str,
        critic: Critic | None,
        seed: int,
        crew: Crew,
    ) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.kl_coef = settings.kl_coef
        self._model, self._score, self._settings = model, score, settings
        self._rollouts, self._reference, self._critic = rollouts, reference, critic
        self.learner = Learner(model, settings, critic, self.random, crew)
        self._scale: _Scale | None = None
        self._warm = False

    def state_dict(self) -> dict[str, Any]:
        return {
            "learner": self.learner.state_dict(),
            "random": self.random.get_state(),
            "kl_coef": self.kl_coef,
            "scale": None if self._scale is None else list(self._scale),
            "warm": self._warm,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learner.load_state_dict(state["learner"])
        self.random.set_state(state["random"])
        self.kl_coef, self._warm = state["kl_coef"], state["warm"]
        self._scale = None if state["scale"] is None else _Scale(*state["scale"])

    def step(self, prompts: list[list[int]]) -> Metrics:
        """One batch: rolled out, scored, learnt from. Objective, entropy and rollout figures are those before the update."""
        settings, times = self._settings, [time.monotonic()]
        samples = self._rollouts.generate(
            POLICY,
            prompts,
            n=settings.samples_per_prompt,
            temperature=1.0,
            max_new_tokens=settings.max_new_tokens,
            seed=int(torch.randint(2**31, (1,), generator=self.random)),
        )
        times.append(time.monotonic())
        scores = self._score(samples).detach().to(self._model.device, torch.float32)
        if not scores.isfinite().all():
            raise TrainingDiverged(f"{int((~scores.isfinite()).sum())} of {len(scores)} scores are not finite")
        times.append(time.monotonic())
        experience, metrics = self._experience(samples, scores)
        times.append(time.monotonic())
        if not _too_far(settings, metrics):
            metrics |= self.learner.update(experience)
        times.append(time.monotonic())
        names = ("rollouts", "score", "experience", "update")
        return metrics | {f"timing/{name}_s": b - a for name, a, b in zip(names, times, times[1:], strict=False)}

    def _experience(self, samples: Sequence[Sample], scores: Tensor) -> tuple[Experience, Metrics]:
        """Logprobs under policy and reference, rewards, advantages; the KL coefficient moves on for the next batch."""
        settings, model = self._settings, self._model
        batch = TokenBatch.pack([s.prompt_tokens for s in samples], [s.tokens for s in samples]).to(model.device)
        mask = batch.response_mask
        with torch.no_grad():
            logprobs, entropy = model.response_logprobs(POLICY, batch, with_entropy=True)
            if self._reference == BASE:
                ref_logprobs = model.base_view(batch).logprobs
            else:
                ref_logprobs = model.response_logprobs(self._reference, batch)
        shaped = self._shape(scores, batch.response_lengths, torch.tensor([s.ended for s in samples], device=scores.device))
        rewards = ppo.token_rewards(shaped, logprobs, ref_logprobs, mask, kl_coef=self.kl_coef)
        kl = (logprobs - ref_logprobs).sum(1).mean().item()
        metrics = {
            "objective/score": scores.mean().item(),
            "objective/kl": kl,
            "objective/kl_coef": self.kl_coef,
            "objective/rlhf_reward": rewards.sum(1).mean().item(),
            "policy/entropy": ppo.masked_mean(entropy, mask).item(),
            "rollout/ended": sum(s.ended for s in samples) / len(samples),
            "rollout/length": batch.response_lengths.float().mean().item(),
        }
        if settings.kl_target is not None:
            self.kl_coef = ppo.next_kl_coef(self.kl_coef, kl, target=settings.kl_target, samples=len(samples))
        base_states = model.base_view(batch).states if holds_of(settings) else None
        weights, details = self._weights(samples, logprobs, mask)
        metrics |= details
        if self._critic is None:
            advantages = ppo.leave_one_out(rewards.sum(1), settings.samples_per_prompt)[:, None].expand_as(rewards)
            return Experience(batch, logprobs, ppo.masked_whiten(advantages, mask), weights, base_states=base_states), metrics
        returns = ppo.gae(rewards, torch.zeros_like(rewards), mask, gamma=settings.gamma, lam=1.0)
        values = self._values(batch, returns)
        advantages = ppo.gae(rewards, values, mask, gamma=settings.gamma, lam=settings.lam)
        metrics["value/explained_variance"] = ppo.explained_variance(values, returns, mask)
        advantages = ppo.masked_whiten(advantages, mask)
        return Experience(batch, logprobs, advantages, weights, values, returns, base_states), metrics

    def _shape(self, scores: Tensor, lengths: Tensor, ended: Tensor) -> Tensor:
        settings = self._settings
        if self._scale is None:
            self._scale = _Scale.of(scores, lengths, residual=settings.length_residual)
        shaped = ppo.shaped_scores(
            scores - self._scale.slope * (lengths - self._scale.length),
            ended,
            mean=self._scale.mean,
            std=self._scale.std,
            clip=settings.reward_clip,
            missing_eos_penalty=settings.missing_eos_penalty,
        )
        return shaped - settings.length_penalty * ppo.length_ramp(lengths, settings.max_new_tokens)

    def _weights(self, samples: Sequence[Sample], logprobs: Tensor, mask: Tensor) -> tuple[Tensor | None, Metrics]:
        """Importance weights against the sampler, and how far the two are apart; None if it does not give its logprobs."""
        given = [s.logprobs for s in samples if s.logprobs is not None]
        if len(given) < len(samples):
            return None, {}
        sampler = torch.zeros_like(logprobs)
        sampler[mask] = torch.tensor([p for each in given for p in each], device=logprobs.device)
        weights = ppo.importance_weights(logprobs, sampler, cap=self._settings.importance_cap)
        return weights, {"rollout/logprob_difference": ppo.masked_mean((logprobs - sampler).abs(), mask).item()}

    def _values(self, batch: TokenBatch, returns: Tensor) -> Tensor:
        """The critic's values (B, T); it learns alone from the first batch before it is asked for any."""
        if not self._warm:
            self.learner.warm_up(Experience(batch, torch.zeros_like(returns), torch.zeros_like(returns), returns=returns))
            self._warm = True
        with torch.no_grad():
            return self._critic(batch)
