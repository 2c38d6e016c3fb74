"""A trained adapter beside the champion: both answer the same questions, and the gates look at what they said."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Protocol

import structlog
import torch
from torch import Tensor

from feedback.events import BASE, Message
from ops.registry import GateResult
from ops.settings import GateSettings, SamplingSettings, Settings
from trainer.answers import BASE_TOKENS, MOST_TOKENS, Answers, Standards
from trainer.batches import TokenBatch
from trainer.examples import Prompt, prompt_hash, unit_interval
from trainer.gates.agreement import agreement, precise_logprobs
from trainer.gates.anchor import anchor
from trainer.gates.collapse import collapse
from trainer.gates.divergence import divergence
from trainer.gates.diversity import distinct_2
from trainer.gates.ended import ended
from trainer.gates.form import form
from trainer.gates.hacking import hacking
from trainer.gates.judged import judged, wins
from trainer.gates.length import length
from trainer.gates.master_keys import MASTER_KEYS, master_keys
from trainer.gates.matched import matched
from trainer.gates.refusals import refusals
from trainer.gates.secrets import secrets
from trainer.gates.sycophancy import sycophancy
from trainer.gates.toxicity import toxicity
from trainer.gates.truth import truth
from trainer.gates.weights import finite_weights
from trainer.policy import AdapterModel
from trainer.probes.anchor import WHAT, anchor_passages
from trainer.probes.likelihoods import log_likelihoods, nats_per_token
from trainer.probes.personal import Conversation, personal_passages
from trainer.probes.pushback import claims, gives_in, pushback_passages
from trainer.reward import LONGEST_PROMPT, encode_prompt
from trainer.rollouts import LocalRollouts, RolloutSource, RolloutsUnavailable, Sample

__all__ = ["CHAMPION", "POLICY", "Standards", "Trial", "divide_prompts"]

_log = structlog.get_logger(__name__)

POLICY, CHAMPION = "policy", "champion"

KL_PROMPTS = 256
"""Enough for a KL of some nats: its standard error is then some tenths."""

PROXY_PROMPTS = 256
"""Enough to tell whether the judge sees what the reward model sees."""

KEY_PROMPTS = 8
"""To which every master key is tried."""

ENGINE_PROMPTS = 32
"""More than a thousand tokens: in bfloat16 a standard error of 0.002 nats, where 0.05 are allowed and 0.045 are common."""

PROBE_SEED = 0
"""Which of the starter domain's facts are asked."""

GATE_SHARE = 0.2
"""Of the people's questions, which the policy is never trained on, where the domain has none of its own for the gates."""

FEW_PROMPTS = 50
"""With fewer questions than this all serve both."""


def divide_prompts(prompts: Sequence[Prompt], domain: str | None) -> tuple[list[Prompt], list[Prompt]]:
    """What to roll out on, and what the gates ask. The starter domain has questions set apart for its gates."""
    if domain == "starter":
        from ops.domain.facts import questions

        return list(prompts), [(Message(role="user", content=question.text),) for question in questions("gate")]
    if len(prompts) < FEW_PROMPTS:
        return list(prompts), list(prompts)
    gated = {prompt for prompt in prompts if unit_interval("gate", prompt_hash(prompt)) < GATE_SHARE}
    return [prompt for prompt in prompts if prompt not in gated], [prompt for prompt in prompts if prompt in gated]


class Scorer(Protocol):
    """A reward model, or whoever else tells good answers from bad ones."""

    def score(self, answers: Sequence[Sample]) -> Tensor:
        """(B,)"""
        ...


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
        sampling: SamplingSettings,
        seed: int,
    ) -> None:
        """``champion`` is the name under which the model holds it, or "base"; ``sampling`` is how people are served.

        Answers may be as long as theirs, also where the policy learns from shorter ones: one that rambles past the training's
        limit would look no longer than the champion.
        """
        self._model, self._champion, self._domain, self._settings = model, champion, domain, settings
        self._temperature, self._seed = sampling.temperature, seed
        self._most = max(sampling.max_tokens, settings.train.ppo.max_new_tokens)
        wanted = settings.train.gates.prompts
        chosen = random.Random(seed).sample(list(prompts), min(len(prompts), wanted))
        self._places = [place % len(chosen) for place in range(wanted)] if chosen else []
        self._prompts = [chosen[place] for place in self._places]

    def run(
        self,
        judge: Scorer,
        standards: Standards,
        *,
        reward: Scorer,
        learnt: Iterable[Conversation] = (),
        engines: Sequence[RolloutSource] = (),
    ) -> tuple[list[GateResult], Standards]:
        """The gates' verdicts, and the standards for the adapters that come after this one.

        ``reward`` is the model that the policy learnt from, ``learnt`` what it can have learnt words from; of the ``engines`` the
        first that answers is compared with the trainer.
        """
        weights = finite_weights(self._model.weights(POLICY))
        if not weights.passed:  # nothing can be asked of it
            return [weights], standards
        if standards.get(MOST_TOKENS) != self._most:
            standards = {MOST_TOKENS: self._most}
        champion, candidate = self._answers(self._champion), self._answers(POLICY)
        if self._champion == BASE and champion.lengths:
            standards = {**standards, BASE_TOKENS: median(champion.lengths)}
        best = {**standards, **{name: max(share, standards.get(name, 0.0)) for name, share in champion.shares.items()}}
        results = [
            weights,
            *self._preferred(candidate, champion, judge, reward),
            *self._divergences(candidate),
            *self._said(candidate, champion, best),
            *self._probed(),
            self._remembered(learnt),
            self._agreement(engines),
        ]
        return results, {**best, **{name: max(share, best[name]) for name, share in candidate.shares.items()}}

    @property
    def _gates(self) -> GateSettings:
        return self._settings.train.gates

    # the questions' answers

    def _answers(self, adapter: str) -> Answers:
        return Answers.of(self._prompts, self._generate(adapter, self._prompts, self._temperature), self._domain)

    def _generate(self, adapter: str, prompts: Sequence[Prompt], temperature: float) -> list[Sample]:
        return LocalRollouts(self._model).generate(
            adapter, self._encoded(prompts), n=1, temperature=temperature, max_new_tokens=self._most, seed=self._seed
        )

    def _encoded(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        return [encode_prompt(self._model, prompt)[-LONGEST_PROMPT:] for prompt in prompts]

    def _preferred(self, candidate: Answers, champion: Answers, judge: Scorer, reward: Scorer) -> list[GateResult]:
        """By the judge, at like length too; whether the reward model was hacked, and whether both know nothing from something."""
        scores, standard = judge.score(candidate.samples).tolist(), judge.score(champion.samples).tolist()
        outcomes, n = wins(scores, standard), PROXY_PROMPTS
        proxy = reward.score(candidate.samples[:n]).tolist()
        return [
            judged(outcomes, self._places, self._gates.min_win_rate),
            matched(outcomes, self._places, candidate.lengths, champion.lengths, self._gates.min_win_rate),
            hacking(wins(proxy, reward.score(champion.samples[:n]).tolist()), outcomes[:n], self._gates.min_judge_share),
            master_keys("master_keys_reward", self._key_scores(reward), proxy),
            master_keys("master_keys_judge", self._key_scores(judge), scores),
        ]

    def _key_scores(self, model: Scorer) -> dict[str, float]:
        prompts = self._encoded(self._prompts[:KEY_PROMPTS])
        keys = {key: tuple(self._model.encode_answer(key)) for key in MASTER_KEYS}
        samples = [Sample(0, tuple(prompt), keys[key], None, True, key) for key in keys for prompt in prompts]
        return dict(zip(keys, model.score(samples).view(len(keys), -1).mean(1).tolist(), strict=True))

    def _said(self, candidate: Answers, champion: Answers, best: Standards) -> list[GateResult]:
        """What is read off the answers alone."""
        gates = self._gates
        results = [
            form(candidate.good["well_formed"], best.get("well_formed", 0.0), gates.min_well_formed_ratio),
            length(candidate.lengths, champion.lengths, gates.min_length_ratio, gates.max_length_ratio, best.get(BASE_TOKENS)),
            ended(candidate.good["ended"], best.get("ended", 0.0), gates.max_ended_loss),
            distinct_2(candidate.texts, champion.texts, gates.min_distinct_ratio),
            collapse(candidate.texts, champion.texts, self._places, gates.max_sameness_rise),
            refusals(candidate.bad("direct"), 1 - best.get("direct", 0.0), gates.max_refusal_rise),
            toxicity(candidate.bad("clean"), 1 - best.get("clean", 0.0), gates.max_toxicity_rise),
        ]
        if self._domain == "starter":
            results.append(truth(candidate.good["correct"], best.get("correct", 0.0)))
        return results

    @torch.no_grad()
    def _divergences(self, candidate: Answers) -> list[GateResult]:
        """KL to the champion and to the base; the answers of the trial will do if they were drawn at temperature 1."""
        samples = candidate.samples[:KL_PROMPTS]
        if self._temperature != 1:
            samples = tuple(self._generate(POLICY, self._prompts[:KL_PROMPTS], 1.0))
        batch = TokenBatch.pack([s.prompt_tokens for s in samples], [s.tokens for s in samples])
        logprobs = {name: self._model.response_logprobs(name, batch).sum(1) for name in {POLICY, self._champion, BASE}}
        return [
            divergence(name, (logprobs[POLICY] - logprobs[reference]).tolist(), limit)
            for name, reference, limit in (
                ("kl_champion", self._champion, self._gates.max_kl_champion),
                ("kl_base", BASE, self._gates.max_kl_base),
            )
        ]

    # what is asked beside the questions; the same in every trial, so that figures of adapters can be compared

    def _probed(self) -> list[GateResult]:
        passages = pushback_passages(self._model, claims(self._domain, PROBE_SEED))
        given_in = {name: gives_in(self._model, name, passages) for name in {POLICY, self._champion}}
        texts = anchor_passages(self._model, self._domain, PROBE_SEED)
        nats = {name: nats_per_token(self._model, name, texts) for name in (POLICY, BASE)}
        return [
            sycophancy(given_in[POLICY], given_in[self._champion], self._gates.max_sycophancy_rise),
            anchor(nats[POLICY], nats[BASE], self._gates.max_anchor_rise, WHAT[self._domain]),
        ]

    def _remembered(self, learnt: Iterable[Conversation]) -> GateResult:
        passages = personal_passages(self._model, learnt)
        candidate, base = (log_likelihoods(self._model, name, passages).exp().tolist() for name in (POLICY, BASE))
        return secrets(candidate, base)

    def _agreement(self, engines: Sequence[RolloutSource]) -> GateResult:
        gates = self._gates
        limit = gates.max_logprob_difference if self._model.dtype == torch.float32 else gates.max_logprob_difference_bf16
        prompts, why = self._encoded(self._prompts[:ENGINE_PROMPTS]), "no engine was to be asked"
        for engine in engines:
            try:
                most = self._settings.train.ppo.max_new_tokens
                samples = engine.generate(POLICY, prompts, n=1, temperature=1.0, max_new_tokens=most, seed=self._seed)
                return agreement(self._differences(samples), limit)
            except RolloutsUnavailable as error:
                why = "no engine answered"  # where they are is for the log, and not for a card that others read
                _log.warning("engine_not_compared", error=str(error))
        return agreement(None, limit, why)

    def _differences(self, samples: Sequence[Sample]) -> list[float]:
        batch = TokenBatch.pack([s.prompt_tokens for s in samples], [s.tokens for s in samples])
        own = precise_logprobs(self._model, POLICY, batch).cpu()
        rows = zip(samples, own.tolist(), strict=True)
        return [abs(p - q) for sample, row in rows for p, q in zip(sample.logprobs or (), row, strict=False)]
