"""A trained adapter beside the champion: both answer the same questions, and the gates look at what they said."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from feedback.events import BASE, Message
from ops.registry import GateResult
from ops.settings import Settings
from trainer.batches import TokenBatch
from trainer.examples import Prompt, prompt_hash, unit_interval
from trainer.gates.divergence import divergence
from trainer.gates.form import form, is_well_formed
from trainer.gates.judged import judged, wins
from trainer.gates.length import length
from trainer.gates.truth import truth
from trainer.gates.weights import finite_weights
from trainer.policy import AdapterModel
from trainer.reward import LONGEST_PROMPT, RewardModel, encode_prompt
from trainer.rollouts import LocalRollouts, Sample

POLICY, CHAMPION = "policy", "champion"

KL_PROMPTS = 256
"""Enough for a KL of some nats: its standard error is then some tenths."""

GATE_SHARE = 0.2
"""Of the people's questions, which the policy is never trained on, where the domain has none of its own for the gates."""

FEW_PROMPTS = 50
"""With fewer questions than this all serve both."""

Standards = dict[str, float]
"""The best shares, by name, of the champions so far: small steps down must not add up."""


def divide_prompts(prompts: Sequence[Prompt], domain: str | None) -> tuple[list[Prompt], list[Prompt]]:
    """What to roll out on, and what the gates ask. The starter domain has questions set apart for its gates."""
    if domain == "starter":
        from ops.domain.facts import questions

        return list(prompts), [(Message(role="user", content=question.text),) for question in questions("gate")]
    if len(prompts) < FEW_PROMPTS:
        return list(prompts), list(prompts)
    gated = {prompt for prompt in prompts if unit_interval("gate", prompt_hash(prompt)) < GATE_SHARE}
    return [prompt for prompt in prompts if prompt not in gated], [prompt for prompt in prompts if prompt in gated]


@dataclass(frozen=True)
class Answers:
    """One adapter's answers, and the same facts of each: its prompt's place, well-formed or not, correct or not."""

    samples: tuple[Sample, ...]
    well_formed: tuple[bool, ...]
    correct: tuple[bool, ...]
    """Empty where nobody knows the truth."""

    @property
    def shares(self) -> Standards:
        parts = {"well_formed": self.well_formed, "correct": self.correct}
        return {name: sum(flags) / len(flags) for name, flags in parts.items() if flags}


class Trial:
    """``prompts`` are asked in turn until settings.train.gates.prompts answers are there from the policy and the champion."""

    def __init__(
        self,
        model: AdapterModel,
        champion: str,
        prompts: Sequence[Prompt],
        domain: str | None,
        settings: Settings,
        *,
        temperature: float,
        seed: int,
    ) -> None:
        """``champion`` is the name under which the model holds it, or "base"; ``temperature`` that at which people are served."""
        self._model, self._champion, self._domain, self._settings = model, champion, domain, settings
        self._temperature, self._seed = temperature, seed
        wanted = settings.train.gates.prompts
        chosen = random.Random(seed).sample(list(prompts), min(len(prompts), wanted))
        self._places = [place % len(chosen) for place in range(wanted)] if chosen else []
        self._prompts = [chosen[place] for place in self._places]

    def run(self, judge: RewardModel, standards: Standards) -> tuple[list[GateResult], Standards]:
        """The gates' verdicts, and the standards for the adapters that come after this one."""
        gates = self._settings.train.gates
        weights = finite_weights(self._model.weights(POLICY))
        if not weights.passed:  # nothing can be asked of it
            return [weights], standards
        champion = self._answers(self._champion)
        candidate = self._answers(POLICY)
        best = {name: max(share, standards.get(name, 0.0)) for name, share in champion.shares.items()}
        outcomes = wins(judge.score(candidate.samples).tolist(), judge.score(champion.samples).tolist())
        results = [weights, judged(outcomes, self._places, gates.min_win_rate), *self._divergences(candidate)]
        results.append(form(candidate.well_formed, best.get("well_formed", 0.0), gates.min_well_formed_ratio))
        lengths = [[len(sample.tokens) for sample in answers.samples] for answers in (candidate, champion)]
        results.append(length(lengths[0], lengths[1], gates.min_length_ratio, gates.max_length_ratio))
        if self._domain == "starter":
            results.append(truth(candidate.correct, best.get("correct", 0.0)))
        after = {name: max(share, best.get(name, 0.0)) for name, share in candidate.shares.items()}
        return results, after

    def _answers(self, adapter: str) -> Answers:
        samples = self._generate(adapter, self._prompts, self._temperature)
        formed = [is_well_formed(sample.text, sample.ended) for sample in samples]
        if self._domain != "starter":
            return Answers(tuple(samples), tuple(formed), ())
        from ops.domain.rules import attributes

        facts = [attributes(prompt[-1].content, sample.text) for prompt, sample in zip(self._prompts, samples, strict=True)]
        whole = tuple(fine and not fact.garbled for fine, fact in zip(formed, facts, strict=True))
        return Answers(tuple(samples), whole, tuple(fact.correct for fact in facts))

    def _generate(self, adapter: str, prompts: Sequence[Prompt], temperature: float) -> list[Sample]:
        tokens = [encode_prompt(self._model, prompt)[-LONGEST_PROMPT:] for prompt in prompts]
        most = self._settings.train.ppo.max_new_tokens
        return LocalRollouts(self._model).generate(
            adapter, tokens, n=1, temperature=temperature, max_new_tokens=most, seed=self._seed
        )

    @torch.no_grad()
    def _divergences(self, candidate: Answers) -> list[GateResult]:
        """KL to the champion and to the base; the answers of the trial will do if they were drawn at temperature 1."""
        samples = candidate.samples[:KL_PROMPTS]
        if self._temperature != 1:
            samples = tuple(self._generate(POLICY, self._prompts[:KL_PROMPTS], 1.0))
        batch = TokenBatch.pack([s.prompt_tokens for s in samples], [s.tokens for s in samples])
        logprobs = {name: self._model.response_logprobs(name, batch).sum(1) for name in {POLICY, self._champion, BASE}}
        gates = self._settings.train.gates
        return [
            divergence(name, (logprobs[POLICY] - logprobs[reference]).tolist(), limit)
            for name, reference, limit in (
                ("kl_champion", self._champion, gates.max_kl_champion),
                ("kl_base", BASE, gates.max_kl_base),
            )
        ]
