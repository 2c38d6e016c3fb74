"""What the frozen base reads in an answer at two depths: features for a reward model that few votes can teach.

The base never changes, so an answer is read once however often its votes are learnt from, in one pass and without a gradient:
minutes on a model of 135M parameters and two cores, where an adapter's training takes hours. Beside the last layer one past the
middle is read, where meaning is plainest. The state of the end token, that of an objection put after the answer, and the model's
own yes or no to "was that harmful?" were tried on real people's pairs and add nothing to the words' mean.

What a mean of states tells badly is read by itself, as it is what people mind most: how long the answer is, whether that is
enough to say anything, and whether it sounds finished.

No reading is kept on disk: it is what somebody wrote in another form, out of reach of its erasure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from feedback.events import BASE
from trainer.batches import TokenBatch, buckets, gathered
from trainer.policy import AdapterModel
from trainer.surprise import COUNT, surprises_of

KEPT = 20_000
"""Answers whose readings are remembered, the last used ones: 5 kB each at a hidden size of 576."""

FORM = 3
"""Numbers: how long an answer is, whether it is long enough to say anything, how finished it sounds."""

FEW_TOKENS = 16
"""Shorter than so, an answer is not shorter still: what pleases by its length alone ends there, and not at nothing."""

A_PHRASE = 12
"""Tokens: what is shorter hardly says anything. People seldom see such answers; `trainer.negatives` has more of them, and would
bend what the words' means are worth if the length alone could not tell.
"""

UNFINISHED = -10.0
"""Nats: the base's log-probability of an end where nothing has come to one; it may well be less."""

Tokens = tuple[int, ...]
Answer = tuple[Tokens, Tokens]
"""Tokens of the prompt and of the answer."""


def depths(layers: int) -> tuple[int, int]:
    """The layers that are read, of so many."""
    return max(1, round(layers * 0.6)), layers


def width(model: AdapterModel) -> int:
    """F."""
    return 2 * model.hidden_size + FORM + COUNT


@torch.no_grad()
def readings(model: AdapterModel, answers: Sequence[Answer]) -> Tensor:
    """(B, F) float32: the words' mean states at `depths`, the answer's form, then its surprises; 0 for an empty answer.

    The end token is no word: it is left out, and whether it is there makes no difference.
    """
    words = [said[:-1] if said and said[-1] == model.eos_token else said for _, said in answers]
    batch = TokenBatch.pack([prompt for prompt, _ in answers], words).to(model.device)
    found = torch.zeros(len(answers), width(model), device=model.device)
    for rows in buckets(batch.lengths, model.tokens_per_pass):
        part = batch.select(rows)
        if not part.longest_response:
            continue
        with model.using(BASE):
            inner = model.decoder(input_ids=part.tokens, use_cache=False, output_hidden_states=True).hidden_states
        at, mask = part.response_positions, part.response_mask
        count = part.response_lengths.clamp(min=1)[:, None]
        both = [inner[depth] for depth in depths(len(inner) - 1)]
        means = [torch.where(mask[:, :, None], gathered(states, at).float(), 0).sum(1) / count for states in both]
        form, surprises = _form(model, part, inner[-1]), surprises_of(model, part, gathered(inner[-1], at - 1), mask)
        found[rows] = torch.cat([*means, form, surprises], 1)
    return found


def _form(model: AdapterModel, part: TokenBatch, states: Tensor) -> Tensor:
    """(b, `FORM`) from the last layer's states (b, L, H): logarithm of the length over `FEW_TOKENS`, length over `A_PHRASE`, at
    most 1, and by how many nats an end is likelier after the last word than `UNFINISHED`. None is less than 0.
    """
    length = (part.response_lengths.clamp(min=FEW_TOKENS) / FEW_TOKENS).log()
    phrase = part.response_lengths.clamp(max=A_PHRASE) / A_PHRASE
    last = states[torch.arange(len(part)), part.lengths - 1]
    end = model.logits(last).log_softmax(-1)[:, model.eos_token]
    return torch.stack([length, phrase, (end - UNFINISHED).clamp(min=0)], 1) * (part.response_lengths > 0)[:, None]


_known: WeakKeyDictionary[AdapterModel, OrderedDict[Answer, Tensor]] = WeakKeyDictionary()
"""What has been read with each model, by all of its readers."""


class Reader:
    """`readings` of answers, each made once while it is remembered: reward model and judge read the same ones."""

    def __init__(self, model: AdapterModel, kept: int = KEPT) -> None:
        self._model, self._kept = model, kept
        self.known = _known.setdefault(model, OrderedDict())

    def __call__(self, answers: Sequence[Answer]) -> Tensor:
        """(B, F)"""
        if not answers:
            return torch.zeros(0, width(self._model), device=self._model.device)
        new = [answer for answer in dict.fromkeys(answers) if answer not in self.known]
        if new:
            self.known.update(zip(new, readings(self._model, new).cpu(), strict=True))
        found = torch.stack([self.known[answer] for answer in answers]).to(self._model.device)
        for answer in answers:
            self.known.move_to_end(answer)
        while len(self.known) > self._kept:
            self.known.popitem(last=False)
        return found
