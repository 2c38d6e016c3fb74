"""How good is an adapter really? Its answers beside the base's, on questions nobody was asked, by the taste without noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from feedback.events import BASE
from ops.domain.people import gold
from ops.domain.starter import STARTER
from ops.settings import SamplingSettings
from trainer.batches import TokenBatch
from trainer.evaluate import ask, compare
from trainer.gates.diversity import distinct_share, word_pairs
from trainer.policy import AdapterModel
from trainer.reward import RewardModel
from trainer.rollouts import LocalRollouts, Sample

KL_ANSWERS = 512

BEST_OF = (4, 16)


class HeldOut:
    """``count`` questions drawn by ``seed``, and the base's answers to them."""

    def __init__(self, model: AdapterModel, sampling: SamplingSettings, count: int, seed: int) -> None:
        self._sampling, self._seed = sampling, seed
        self._asked = ask(count, seed)
        self._prompts = [model.encode_prompt([{"role": "user", "content": question}]) for question in self._asked]
        self._base = self._answers(model, BASE)

    def figures(self, model: AdapterModel, name: str) -> dict[str, float]:
        """Of adapter ``name``: its gold win rate over the base with a Wilson interval (95 %), a draw being half a win; shares
        of answers by attribute; distinct-2; the KL to the base in nats an answer, drawn at the temperature of service.
        """
        answers = self._base if name == BASE else self._answers(model, name)
        return self._compared([sample.text for sample in answers]) | {"kl": self._kl(model, name, answers[:KL_ANSWERS])}

    def best_of(self, model: AdapterModel, reward: RewardModel | None, count: int = 500) -> dict[str, dict[str, float]]:
        """The base's best of n answers by the reward model, and by the taste itself: what n answers a question can be worth."""
        most = max(BEST_OF)
        prompts, asked = self._prompts[:count], self._asked[:count]
        samples = LocalRollouts(model).generate(BASE, prompts, **self._how(self._seed + 1), n=most)
        judges = {"gold": [gold(asked[sample.prompt_index], sample.text) for sample in samples]}
        if reward is not None:
            judges["reward"] = reward.score(samples).tolist()
        found = {}
        for judge, scores in judges.items():
            for n in BEST_OF:
                best = [max(range(p * most, p * most + n), key=scores.__getitem__) for p in range(len(prompts))]
                found[f"{judge} {n}"] = self._compared([samples[place].text for place in best])
        return found

    def start(self) -> dict[str, float]:
        """The base's own shares."""
        return self._compared([sample.text for sample in self._base]) | {"kl": 0.0}

    def _compared(self, texts: Sequence[str]) -> dict[str, float]:
        asked = self._asked[: len(texts)]
        compared = compare(asked, [sample.text for sample in self._base[: len(texts)]], texts)
        rate = compared["win_rate"]
        shares = {name: compared[name]["final"] for name in STARTER.figures}
        shares["distinct_2"] = distinct_share(word_pairs(texts))
        return {"win_rate": rate["value"], "low": rate["low"], "high": rate["high"], **shares}

    def _answers(self, model: AdapterModel, name: str) -> list[Sample]:
        return LocalRollouts(model).generate(name, self._prompts, **self._how(self._seed), n=1)

    def _how(self, seed: int) -> dict[str, Any]:
        return {"temperature": self._sampling.temperature, "max_new_tokens": self._sampling.max_tokens, "seed": seed}

    @torch.no_grad()
    def _kl(self, model: AdapterModel, name: str, answers: Sequence[Sample]) -> float:
        if name == BASE:
            return 0.0
        batch = TokenBatch.pack([each.prompt_tokens for each in answers], [each.tokens for each in answers])
        ratios = model.response_logprobs(name, batch) - model.response_logprobs(BASE, batch)
        return ratios.sum(1).mean().item()
