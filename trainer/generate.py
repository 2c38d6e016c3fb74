"""Answers sampled in this process: a batch of prompts padded on the left, one key-value cache, finished rows dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache

from trainer.policy import AdapterModel

ROWS = 128
"""Sequences that share a forward pass."""

DROP_AT = 0.75
"""Finished rows leave the cache once no more than this share of its rows is unfinished: each copy of the cache costs."""


@dataclass(frozen=True)
class Answer:
    """One sampled response: its tokens (EOS included when it ended) and their log-probabilities as they were sampled, nats."""

    tokens: list[int]
    logprobs: list[float]
    ended: bool


@torch.no_grad()
def generate(
    model: AdapterModel,
    adapter: str,
    prompts: Sequence[Sequence[int]],
    *,
    n: int = 1,
    temperature: float = 1.0,
    max_new_tokens: int,
    seed: int,
) -> list[list[Answer]]:
    """``n`` answers to every prompt, in the prompts' order. Temperature 0 takes the likeliest token; no other truncation.

    The same seed gives the same answers on the same machine; prompts of like length share a batch.
    """
    random = torch.Generator(model.device).manual_seed(seed)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    share = max(1, ROWS // n)
    answers: list[list[Answer]] = [[] for _ in prompts]
    with model.merged(adapter):
        for start in range(0, len(order), share):
            chosen = order[start : start + share]
            batch = _Batch.prefill(model, [prompts[i] for i in chosen], n)
            for place, answer in enumerate(batch.run(temperature, max_new_tokens, random)):
                answers[chosen[place // n]].append(answer)
    return answers


@dataclass
class _Batch:
    """R running sequences: their cache, mask (R, S) and last logits (R, V); ``rows`` (R,) says which answer each one is."""

    model: AdapterModel
    cache: DynamicCache
    mask: Tensor
    logits: Tensor
    rows: Tensor
    tokens: list[list[int]] = field(default_factory=list)
    logprobs: list[list[float]] = field(default_factory=list)

    @classmethod
    def prefill(cls, model: AdapterModel, prompts: Sequence[Sequence[int]], n: int) -> _Batch:
        """Each prompt goes through the model once, whatever ``n``."""
        width = max(map(len, prompts))
        tokens = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=model.device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
        cache = DynamicCache(config=model.model.config)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        states = model.decoder(
            input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        ).last_hidden_state
        logits = model.head(states[:, -1]).float()
        if n > 1:
            cache.batch_repeat_interleave(n)
            mask, logits = mask.repeat_interleave(n, 0), logits.repeat_interleave(n, 0)
        count = len(mask)
        rows = torch.arange(count, device=model.device)
        return cls(model, cache, mask, logits, rows, [[] for _ in range(count)], [[] for _ in range(count)])

    def run(self, temperature: float, max_new_tokens: int, random: torch.Generator) -> list[Answer]:
        eos = self.model.eos_token
        unfinished = torch.ones_like(self.rows, dtype=torch.bool)
        for step in range(max_new_tokens):
            logs = (self.logits / temperature if temperature > 0 else self.logits).log_softmax(-1)
            chosen = _draw(logs.exp(), random) if temperature > 0 else logs.argmax(-1)
            self._note(chosen, logs, unfinished)
            unfinished &= chosen != eos
            alive = int(unfinished.sum())
            if not alive or step + 1 == max_new_tokens:
                break
            if alive <= DROP_AT * len(self.rows):
                keep = unfinished.nonzero()[:, 0]
                self.cache.batch_select_indices(keep)
                self.mask, self.rows, chosen, unfinished = self.mask[keep], self.rows[keep], chosen[keep], unfinished[keep]
            self._step(chosen)
        return [Answer(t, p, t[-1] == eos) for t, p in zip(self.tokens, self.logprobs, strict=True)]

    def _note(self, chosen: Tensor, logs: Tensor, unfinished: Tensor) -> None:
        picked = logs.gather(1, chosen[:, None])[:, 0]
        columns = zip(self.rows.tolist(), chosen.tolist(), picked.tolist(), unfinished.tolist(), strict=True)
        for row, token, logprob, running in columns:
            if running:
                self.tokens[row].append(token)
                self.logprobs[row].append(logprob)

    def _step(self, chosen: Tensor) -> None:
        """Feed one token to every sequence. A finished row not dropped yet gets fed too; nothing of it is noted."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], 1)
        states = self.model.decoder(
            input_ids=chosen[:, None],
            attention_mask=self.mask,
            position_ids=self.mask.sum(1, keepdim=True) - 1,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        self.logits = self.model.head(states[:, -1]).float()


def _draw(probabilities: Tensor, random: torch.Generator) -> Tensor:
    """One column of each row (R, V), (R,): the inverse of the distribution function, in a third of `torch.multinomial`'s time."""
    ends = probabilities.cumsum(-1)
    total = ends[:, -1:]
    place = torch.rand(total.shape, generator=random, device=total.device) * total
    place = place.minimum(total.nextafter(torch.zeros_like(total)))  # the product may round up to the total itself
    return torch.searchsorted(ends, place, right=True)[:, 0]
