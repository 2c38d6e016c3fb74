"""The gradient steps of PPO and RLOO: from one batch of experience to the policy's and the critic's new weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ops.settings import PpoSettings
from trainer.batches import TokenBatch
from trainer.experience import Experience
from trainer.holds import holds_of, logprobs_and_nats
from trainer.parallel import ALONE, Crew
from trainer.policy import AdapterModel
from trainer.ppo import LOSS_METRICS, masked_mean, ppo_policy_loss, value_loss

POLICY, VALUE, REWARD = "policy", "value", "reward"

_BETAS = (0.9, 0.95)

Metrics = dict[str, float]


class TrainingDiverged(ArithmeticError):
    """A score, loss, gradient or weight is not finite. What was trained is worthless; nothing of it may be published."""


class LeftTheCrew(Exception):
    """One of several processes has failed at what all were at: the others wait for it, and only its death can tell them."""


class NothingToLearn(ValueError):
    """The votes hold nothing that the algorithm learns from."""


class Critic:
    """V(prompt and the response so far): adapter "value" and a linear head that starts at 0.

    A "value" adapter that is not there yet starts as a copy of "reward", else fresh. The former has read the same answers, where
    the reward model's trunk is an adapter; where that is the frozen base, it has learnt nothing either.
    """

    def __init__(self, model: AdapterModel) -> None:
        if VALUE not in model.names:
            model.add(VALUE, source=REWARD if REWARD in model.names else None)
        self.model = model
        self.head = nn.Linear(model.hidden_size, 1, device=model.device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def __call__(self, batch: TokenBatch) -> Tensor:
        """(B, T), the value before each response token."""
        return self.head(self.model.response_states(VALUE, batch, before=True))[:, :, 0]


class Learner:
    """Holds the optimizers; adapter "policy" and the critic are trained in place.

    The gradient of a minibatch adds up over passes of the model's `groups`: no more activations are held at once;
    and over the crew's processes, of which each takes some of the rows.
    """

    def __init__(
        self,
        model: AdapterModel,
        settings: PpoSettings,
        critic: Critic | None,
        random: torch.Generator,
        crew: Crew = ALONE,
    ) -> None:
        self._model, self._settings, self._critic, self._random, self._crew = model, settings, critic, random, crew
        self._holds = holds_of(settings)
        self._told = False
        self._policy_parameters = model.trainable(POLICY)
        self._policy_optimizer = torch.optim.Adam(self._policy_parameters, settings.learning_rate, betas=_BETAS)
        if critic is not None:
            value_parameters = model.trainable(VALUE)
            model.trainable(POLICY, VALUE)
            self._value_parameters = [*value_parameters, *critic.head.parameters()]
            self._value_optimizer = torch.optim.Adam(self._value_parameters, settings.value_learning_rate, betas=_BETAS)

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimizers: with it, and the random numbers, another learner goes on as this one would."""
        state: dict[str, Any] = {"policy": self._model.weights(POLICY), "policy_optimizer": self._policy_optimizer.state_dict()}
        if self._critic is not None:
            state["value"] = [parameter.detach() for parameter in self._value_parameters]
            state["value_optimizer"] = self._value_optimizer.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        with torch.no_grad():
            for name, weight in self._model.weights(POLICY).items():
                weight.copy_(state["policy"][name])
            self._policy_optimizer.load_state_dict(state["policy_optimizer"])
            if self._critic is not None:
                for parameter, kept in zip(self._value_parameters, state["value"], strict=True):
                    parameter.copy_(kept)
                self._value_optimizer.load_state_dict(state["value_optimizer"])

    def warm_up(self, experience: Experience) -> None:
        """settings.value_warmup_steps minibatches for the critic alone: its first values would mislead the policy (VC-PPO)."""
        self._tell("warm_up", experience)
        left = self._settings.value_warmup_steps
        with self._together():
            while left:
                for part in list(experience.minibatches(self._settings.minibatches, self._random))[:left]:
                    self._learn_values(part)
                    left -= 1

    def update(self, experience: Experience) -> Metrics:
        """Epochs over minibatches. The policy stops early once it is settings.stop_kl away from where the rollouts came from.

        Returns the means over the minibatches. Raises `TrainingDiverged`.
        """
        self._tell("update", experience)
        with self._together():
            return self._update(experience)

    def _update(self, experience: Experience) -> Metrics:
        settings = self._settings
        noted: dict[str, list[float]] = {}
        updates, policy_learns = 0, True
        for _ in range(settings.epochs):
            for part in experience.minibatches(settings.minibatches, self._random):
                metrics = self._learn_values(part) if self._critic is not None else {}
                if policy_learns:
                    metrics |= self._learn_policy(part)
                    policy_learns = metrics["policy/approx_kl"] <= settings.stop_kl
                    updates += policy_learns
                for key, value in metrics.items():
                    noted.setdefault(key, []).append(value)
        for key, weight in self._model.weights(POLICY).items():
            if not weight.isfinite().all():
                raise TrainingDiverged(f"policy: {key} is not finite")
        return {key: sum(values) / len(values) for key, values in noted.items()} | {"policy/updates": float(updates)}

    def _learn_policy(self, minibatch: Experience) -> Metrics:
        """One optimizer step; a minibatch that finds the policy past settings.stop_kl is measured, not learnt from."""
        settings = self._settings
        names = ("policy/loss", *LOSS_METRICS, *(hold.metric for hold in self._holds))
        metrics: Metrics = dict.fromkeys(names, 0.0)
        self._policy_optimizer.zero_grad()
        for part, share in minibatch.passes(self._model.groups, self._crew.rank, self._crew.size):
            logprobs, nats = self._logprobs(part)
            loss, details = ppo_policy_loss(
                logprobs,
                part.old_logprobs,
                part.advantages,
                part.mask,
                clip_range=settings.clip_range,
                dual_clip=settings.dual_clip,
                weights=part.weights,
            )
            for hold, own in zip(self._holds, nats, strict=True):
                held = masked_mean(own, part.mask)
                loss, details[hold.metric] = loss + hold.coef * held, held.item()
            (loss * share).backward()
            for key, value in ({"policy/loss": loss.item()} | details).items():
                metrics[key] += share * value
        metrics = self._add_up(self._policy_parameters, metrics)
        metrics["policy/grad_norm"] = self._clip_gradients("policy", metrics["policy/loss"], self._policy_parameters)
        if metrics["policy/approx_kl"] <= settings.stop_kl:
            self._policy_optimizer.step()
        return metrics

    def _logprobs(self, part: Experience) -> tuple[Tensor, list[Tensor]]:
        """The policy's, and the nats of what holds it."""
        if not self._holds:
            return self._model.response_logprobs(POLICY, part.batch), []
        return logprobs_and_nats(self._model, POLICY, part.batch, part.base_states, self._holds)

    def _learn_values(self, minibatch: Experience) -> Metrics:
        """One optimizer step of the critic; without old values there is nothing to clip to."""
        metrics: Metrics = {"value/loss": 0.0}
        self._value_optimizer.zero_grad()
        for part, share in minibatch.passes(self._model.groups, self._crew.rank, self._crew.size):
            values = self._critic(part.batch)
            old_values = values.detach() if part.values is None else part.values
            loss = value_loss(values, old_values, part.returns, part.mask, value_clip=self._settings.value_clip)
            (loss * share).backward()
            metrics["value/loss"] += share * loss.item()
        metrics = self._add_up(self._value_parameters, metrics)
        metrics["value/grad_norm"] = self._clip_gradients("value", metrics["value/loss"], self._value_parameters)
        self._value_optimizer.step()
        return metrics

    def done(self) -> None:
        """Nothing more will be learnt: the crew's other processes let go of what they hold."""
        if self._told:
            self._crew.tell({"end": True})

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Around what the whole crew computes. `TrainingDiverged` comes to all of them; who fails alone must die of it."""
        try:
            yield
        except TrainingDiverged:
            raise
        except Exception as error:
            if self._crew.size == 1:
                raise
            self._told = False  # the others wait for gradients, and would take no other word
            what = f"{type(error).__name__}: {error}".rstrip(": ")
            raise LeftTheCrew(f"process {self._crew.rank} of {self._crew.size} broke off: {what}") from error

    def _tell(self, what: str, experience: Experience) -> None:
        """The crew's other processes do the same from here on, beginning with the same weights and random numbers."""
        if self._crew.size == 1 or self._crew.rank:
            return
        if not self._told:
            names = (POLICY,) if self._critic is None else (POLICY, VALUE)
            shapes = {name: (self._model.config(name).r, self._model.config(name).lora_alpha) for name in names}
            settings, critic = self._settings.model_dump(mode="json"), self._critic is not None
            self._crew.tell({"begin": {"adapters": shapes, "settings": settings, "critic": critic, "state": self.state_dict()}})
            self._told = True
        self._crew.tell({"learn": what, "random": self._random.get_state(), "experience": experience.to_state()})

    def _add_up(self, parameters: list[nn.Parameter], metrics: Metrics) -> Metrics:
        """The whole crew's gradients and metrics, each process having made its share of them."""
        if self._crew.size == 1:
            return metrics
        for parameter in parameters:
            if parameter.grad is None:  # not one row was this process's
                parameter.grad = torch.zeros_like(parameter)
        figures = torch.tensor(list(metrics.values()), device=self._model.device)
        self._crew.add_up([*(parameter.grad for parameter in parameters), figures])
        return dict(zip(metrics, figures.tolist(), strict=True))

    def _clip_gradients(self, what: str, loss: float, parameters: list[nn.Parameter]) -> float:
        norm = nn.utils.clip_grad_norm_(parameters, self._settings.max_grad_norm).item()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingDiverged(f"{what}: loss {loss}, gradient norm {norm}")
        return norm
