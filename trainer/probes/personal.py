"""Personal data in what was learnt from: canaries that a model must not complete (Carlini et al. 2019, arXiv:1802.08232).

They are found by their form (`feedback.redact`), so whoever plants an e-mail address or a card number of their own in their data
sees it looked for here.
"""

from __future__ import annotations

from collections.abc import Iterable

from feedback.join import Vote
from feedback.redact import personal
from trainer.examples import Prompt
from trainer.policy import AdapterModel
from trainer.probes.likelihoods import Passage

MOST = 64
"""Different pieces that are asked for, the newest ones."""

CONTEXT = 128
"""Tokens before a piece."""

Conversation = tuple[tuple[str, str], ...]
"""(role, text) of each message, the answer last."""


def conversations(votes: Iterable[Vote], prompts: Iterable[Prompt]) -> list[Conversation]:
    """All that a policy can have learnt words from: what was asked and answered, and what people would rather have read."""
    found = [tuple((message.role, message.content) for message in prompt) for prompt in prompts]
    for vote in votes:
        for completion in vote.completions:
            asked = tuple((message.role, message.content) for message in completion.text.messages)
            better = getattr(vote.judgement, "text", "")
            found += [(*asked, ("assistant", text)) for text in (completion.text.answer, better) if text]
    return found


def personal_passages(model: AdapterModel, learnt: Iterable[Conversation]) -> list[Passage]:
    """Each piece where it first stands in a conversation, as the model reads it there: through its chat template."""
    passages: dict[str, Passage] = {}
    for conversation in reversed(list(learnt)):
        for piece in [piece for _, text in conversation for piece in personal(text) if piece not in passages]:
            passage = _passage(model, conversation, piece)
            if passage is not None:
                passages[piece] = passage
        if len(passages) >= MOST:
            break
    return list(passages.values())[:MOST]


def _passage(model: AdapterModel, conversation: Conversation, piece: str) -> Passage | None:
    messages = [{"role": role, "content": text} for role, text in conversation]
    rendered = model.tokenizer.apply_chat_template(messages, tokenize=False)
    start = rendered.find(piece)
    encoded = model.tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True)
    places = [n for n, (begin, stop) in enumerate(encoded.offset_mapping) if begin < start + len(piece) and stop > start]
    if start < 0 or not places or places[0] == 0:
        return None
    first, end = places[0], places[-1] + 1
    tokens = tuple(encoded.input_ids[first:end])
    return Passage(tuple(encoded.input_ids[max(0, first - CONTEXT) : first]), tokens, (True,) * len(tokens))
