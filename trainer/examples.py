"""From votes to what a reward model learns from: the same votes give the same examples, in the same order.

A rater is either the reward model's or the judge's, for ever, by a hash of the rater. So each of the two is tested on people
whom it never learnt from, and no vote is lost to a test set of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from feedback.events import CompletionCreated, Message, Preference, Rating
from feedback.ids import text_hash
from feedback.join import Vote
from feedback.raters.weights import Weighed, batch_weights, trusts

Label = Literal["a", "b", "tie", "both_bad", "up", "down"]
Prompt = tuple[Message, ...]

MAX_INVERSE_PROPENSITY = 10.0
FEW_RATERS = 10
"""With less than this, raters cannot be divided: their prompts are."""


@dataclass(frozen=True)
class Example:
    """A vote as a lesson. ``answers`` and ``ended`` (did it end by itself) have one entry for a thumb, two for a pair."""

    feedback_id: str
    time: float
    rater: str
    prompt: Prompt
    prompt_hash: str
    answers: tuple[str, ...]
    ended: tuple[bool, ...]
    label: Label
    weight: float = 1.0
    key_id: str = ""

    @property
    def is_pair(self) -> bool:
        return len(self.answers) == 2

    @property
    def sign(self) -> int:
        """+1 for "a" and "up", -1 for "b" and "down", 0 where a score has nothing to get right."""
        return {"a": 1, "up": 1, "b": -1, "down": -1}.get(self.label, 0)


def prompt_hash(prompt: Prompt) -> str:
    """SHA-256 over roles and contents."""
    return text_hash(json.dumps([[message.role, message.content] for message in prompt]))


def examples_of(votes: Sequence[Vote]) -> list[Example]:
    """One example for each thumb and each preference, in the votes' order.

    Left out: a pair of equal answers, which tells nothing about either; answers that call tools, which are not text; and those
    whose text has been erased.
    """
    examples = []
    for vote in votes:
        if not isinstance(vote.judgement, Rating | Preference) or any(c.sealed for c in vote.completions):
            continue
        answers = tuple(completion.text.answer for completion in vote.completions)
        if (len(answers) == 2 and answers[0] == answers[1]) or any(c.text.tool_calls for c in vote.completions):
            continue
        prompt = vote.completions[0].text.messages
        propensity = min((exposure.propensity for exposure in vote.exposures), default=1.0)
        examples.append(
            Example(
                feedback_id=vote.feedback_id,
                time=vote.time,
                rater=vote.rater,
                prompt=prompt,
                prompt_hash=prompt_hash(prompt),
                answers=answers,
                ended=tuple(map(_ended, vote.completions)),
                label=_label(vote.judgement),
                weight=min(1 / propensity, MAX_INVERSE_PROPENSITY),
                key_id=vote.key_id,
            )
        )
    return examples


def _label(judgement: Rating | Preference) -> Label:
    if isinstance(judgement, Rating):
        return "up" if judgement.value == 1 else "down"
    return "tie" if judgement.value == "both_good" else judgement.value


def _ended(completion: CompletionCreated) -> bool:
    """Did the model end the answer? One cut at its token limit is not to be taught as a whole answer."""
    return completion.finish_reason != "length"


def believed(votes: Sequence[Vote]) -> list[Example]:
    """`examples_of` the votes, their weights multiplied by what their raters are trusted (see `feedback.raters.weights`)."""
    trust = trusts(votes)
    return [replace(example, weight=example.weight * trust[example.rater]) for example in examples_of(votes)]


def weighted(examples: Sequence[Example]) -> list[Example]:
    """The examples with weights of mean 1 in which no rater and no API key has too much (see `batch_weights`)."""
    weights = batch_weights([Weighed(example.rater, example.key_id, example.weight) for example in examples])
    return [replace(example, weight=weight) for example, weight in zip(examples, weights, strict=True)]


@dataclass(frozen=True)
class Division:
    """Who learns from what. ``by`` says what the two have not in common: the raters, or with few raters the prompts."""

    reward: tuple[Example, ...]
    judge: tuple[Example, ...]
    by: Literal["rater", "prompt"]


def divide(examples: Sequence[Example], judge_share: float) -> Division:
    """``judge_share`` of the raters (of the prompts, with few raters) are the judge's, the others the reward model's."""
    by: Literal["rater", "prompt"] = "rater" if len({e.rater for e in examples}) >= FEW_RATERS else "prompt"
    judged = [unit_interval("judge", e.rater if by == "rater" else e.prompt_hash) < judge_share for e in examples]
    return Division(
        reward=tuple(e for e, is_judges in zip(examples, judged, strict=True) if not is_judges),
        judge=tuple(e for e, is_judges in zip(examples, judged, strict=True) if is_judges),
        by=by,
    )


def unseen(examples: Sequence[Example], learnt: Sequence[Example], limit: int) -> list[Example]:
    """The newest ``limit`` of the examples whose prompt does not occur in what was learnt."""
    prompts = {example.prompt_hash for example in learnt}
    return [example for example in examples if example.prompt_hash not in prompts][-limit:]


def lessons(examples: Sequence[Example], new: Collection[str], replay: int, seed: int) -> list[Example]:
    """All new examples (by feedback id), and of the older ones ``replay`` drawn without regard to what they say."""
    older = [example for example in examples if example.feedback_id not in new]
    drawn = sorted(older, key=lambda example: unit_interval(f"replay {seed}", example.feedback_id))[:replay]
    chosen = {example.feedback_id for example in drawn} | {e.feedback_id for e in examples if e.feedback_id in new}
    return [example for example in examples if example.feedback_id in chosen]


def unit_interval(label: str, value: str) -> float:
    """A hash of both as a number in [0, 1)."""
    return int.from_bytes(hashlib.sha256(f"{label}\0{value}".encode()).digest()[:8], "big") / 2**64


def digest(examples: Sequence[Example]) -> str:
    """SHA-256 of which votes these are and what they say."""
    return text_hash(json.dumps([[example.feedback_id, example.label] for example in examples]))
