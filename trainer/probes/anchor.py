"""The anchor set: texts that no feedback is about, so whoever learns from feedback should find them as likely as before."""

from __future__ import annotations

import random

from trainer.policy import AdapterModel
from trainer.probes.anchor_texts import TEXTS
from trainer.probes.likelihoods import Passage

PIECE = 128
"""Tokens that are read together: short enough for every model's context, and cheap."""

STARTER_QUESTIONS = 120

WHAT = {None: "general texts and code", "starter": "the results of its domain's questions"}
"""By domain."""


def anchor_passages(model: AdapterModel, domain: str | None, seed: int) -> list[Passage]:
    """`TEXTS` in pieces of `PIECE` tokens. The starter domain has its own: it has never read anything else."""
    if domain == "starter":
        return starter_passages(model, seed)
    return [passage for text in TEXTS for passage in _pieces(model.tokenizer(text).input_ids)]


def _pieces(tokens: list[int]) -> list[Passage]:
    """Each piece's first token is only context."""
    parts = [tokens[start : start + PIECE] for start in range(0, len(tokens), PIECE)]
    return [Passage((part[0],), tuple(part[1:]), (True,) * (len(part) - 1)) for part in parts if len(part) > 1]


def starter_passages(model: AdapterModel, seed: int) -> list[Passage]:
    """Polite, right, short answers to questions that the gates may ask, of which the words of the result alone count.

    People teach manners, so those must be free to change: what is anchored is what the model knows.
    """
    from ops.domain.corpus import Mix, answer
    from ops.domain.facts import questions

    rng, mix = random.Random(seed), Mix(polite=1, rude=0, toxic=0, rambling=0, wrong=0)
    asked = questions("gate")
    passages = []
    for question in rng.sample(asked, min(STARTER_QUESTIONS, len(asked))):
        text = answer(question, rng, mix).text
        encoded = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        start = text.rfind(question.truth)
        end = start + len(question.truth)
        counted = tuple(begin < end and stop > start for begin, stop in encoded.offset_mapping)
        prompt = model.encode_prompt([{"role": "user", "content": question.text}])
        passages.append(Passage(tuple(prompt), tuple(encoded.input_ids), counted))
    return passages
