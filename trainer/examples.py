"""From votes to what a reward model learns from: the same votes give the same examples, in the same order.

A rater is either the reward model's or the judge's, for ever, by a hash of the rater. So each of the two is tested on people
whom it never learnt from, and no vote is lost to a test set of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from feedback.events import CompletionCreated, Correction, Flag, Implicit, Judgement, Message, Preference, Ranking, Rating, Score
from feedback.ids import text_hash
from feedback.join import Vote
from feedback.raters.flips import flips_of
from feedback.raters.weights import Weighed, batch_weights, ramps

Label = Literal["a", "b", "tie", "both_bad", "both_good", "up", "down", "ranked", "scored", "flagged"]
Prompt = tuple[Message, ...]

MAX_INVERSE_PROPENSITY = 10.0
FEW_RATERS = 10
"""With less than this, raters cannot be divided: their prompts are."""


@dataclass(frozen=True)
class Example:
    """A vote as a lesson. ``answers`` and ``ended`` (did it end by itself) have two entries for a pair, one for each answer of a
    ranking, else one.
    """

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
    side_by_side: bool = True
    """False for a correction and what it corrects: neither was shown first."""
    ranks: tuple[int, ...] = ()
    """Of "ranked", see `feedback.events.Ranking`."""
    metric: str = ""
    value: float = 0.0
    """Of "scored": the application's metric, and 0 to 1."""
    golden: bool = False
    """The right answer of a golden item, and nobody's vote."""
    flip: float = 0.0
    """Epsilon: how probable it is that this rater says the opposite of what they would (see `trainer.likelihood`)."""

    @property
    def is_pair(self) -> bool:
        return len(self.answers) == 2 and self.label != "ranked"

    @property
    def is_thumb(self) -> bool:
        return self.label in ("up", "down")

    @property
    def kind(self) -> str:
        """What was judged: "pair", "thumb", or the label of what is neither."""
        return "pair" if self.is_pair else "thumb" if self.is_thumb else self.label

    @property
    def sign(self) -> int:
        """+1 for "a" and "up", -1 for "b" and "down", 0 where a score has nothing to get right."""
        return {"a": 1, "up": 1, "b": -1, "down": -1}.get(self.label, 0)

    @property
    def said(self) -> tuple[str | float | tuple[int, ...], ...]:
        """All that tells this lesson from another on the same vote: what was said, and on which texts."""
        texts = text_hash(json.dumps(self.answers))
        return (self.feedback_id, self.label, texts, self.ranks, self.metric, self.value)


def prompt_hash(prompt: Prompt) -> str:
    """SHA-256 over roles and contents."""
    return text_hash(json.dumps([[message.role, message.content] for message in prompt]))


def examples_of(votes: Sequence[Vote]) -> list[Example]:
    """One example for each vote that judges text, in the votes' order.

    Left out: what somebody did without judging (`Implicit`: a copied answer was useful, or wrong enough to be shown around; it
    only picks what to ask people about); answers that are all the same, which tells nothing about any; answers that call tools,
    which are not text; and those whose text has been erased.
    """
    return [example for example in map(_example, votes) if example is not None]


def _example(vote: Vote) -> Example | None:
    judgement = vote.judgement
    if isinstance(judgement, Implicit) or any(c.sealed or c.text.tool_calls for c in vote.completions):
        return None
    answers = tuple(completion.text.answer for completion in vote.completions)
    ended = tuple(map(_ended, vote.completions))
    label, details = _label(judgement)
    if isinstance(judgement, Correction):
        if not judgement.text:  # erased
            return None
        answers, ended = (judgement.text, *answers), (True, *ended)
        if unit_interval("side", vote.feedback_id) < 0.5:  # so that whoever always takes the first side learns nothing
            answers, ended, label = answers[::-1], ended[::-1], "b"
    if len(answers) > 1 and len(set(answers)) == 1:
        return None
    prompt = vote.completions[0].text.messages
    propensity = min((exposure.propensity for exposure in vote.exposures), default=1.0)
    return Example(
        feedback_id=vote.feedback_id,
        time=vote.time,
        rater=vote.rater,
        prompt=prompt,
        prompt_hash=prompt_hash(prompt),
        answers=answers,
        ended=ended,
        label=label,
        weight=min(1 / propensity, MAX_INVERSE_PROPENSITY),
        key_id=vote.key_id,
        golden=vote.source == "golden",
        **details,
    )


def _label(judgement: Judgement) -> tuple[Label, dict[str, Any]]:
    """The label, and the example's fields that only this kind has."""
    match judgement:
        case Rating(value=value):
            return ("up" if value == 1 else "down"), {}
        case Preference(value=side):
            return side, {}
        case Ranking(ranks=ranks):
            return "ranked", {"ranks": ranks}
        case Correction():
            return "a", {"side_by_side": False}
        case Score(metric=metric, value=value):
            return "scored", {"metric": metric, "value": value}
        case Flag():
            return "flagged", {}
    raise TypeError(f"{judgement.kind}: not a judgement")


def _ended(completion: CompletionCreated) -> bool:
    """Did the model end the answer? One cut at its token limit is not to be taught as a whole answer."""
    return completion.finish_reason != "length"


def believed(votes: Sequence[Vote]) -> list[Example]:
    """`examples_of` the votes with what is known of their raters: newcomers weigh less (`feedback.raters.weights.ramp`), and
    ``flip`` is how often each says the opposite, by overlapping and golden items (`feedback.raters.flips`).
    """
    share, flips = ramps(votes), flips_of(votes)
    return [
        replace(example, weight=example.weight * share[example.rater], flip=flips.heard(example.rater))
        for example in examples_of(votes)
    ]


def weighted(examples: Sequence[Example]) -> list[Example]:
    """The examples with weights of mean 1 in which no rater and no API key has too much (see `batch_weights`)."""
    weights = batch_weights([Weighed(example.rater, example.key_id, example.weight) for example in examples])
    return [replace(example, weight=weight) for example, weight in zip(examples, weights, strict=True)]


@dataclass(frozen=True)
class Division:
    """Who learns from what. ``by`` says what the two have not in common: the raters, or with few raters the prompts.

    Nobody learns from golden items, whose right answers are known: both are tried on them.
    """

    reward: tuple[Example, ...]
    judge: tuple[Example, ...]
    by: Literal["rater", "prompt"]
    golden: tuple[Example, ...] = ()


def divide(examples: Sequence[Example], judge_share: float) -> Division:
    """``judge_share`` of the raters (of the prompts, with few raters) are the judge's, the others the reward model's."""
    said = [example for example in examples if not example.golden]
    by: Literal["rater", "prompt"] = "rater" if len({e.rater for e in said}) >= FEW_RATERS else "prompt"
    judged = [unit_interval("judge", e.rater if by == "rater" else e.prompt_hash) < judge_share for e in said]
    return Division(
        reward=tuple(e for e, is_judges in zip(said, judged, strict=True) if not is_judges),
        judge=tuple(e for e, is_judges in zip(said, judged, strict=True) if is_judges),
        by=by,
        golden=tuple(example for example in examples if example.golden),
    )


def parted(examples: Sequence[Example], goals: Collection[str]) -> tuple[list[Example], list[Example]]:
    """What tells of preferences, and the scores of the goals' metrics (see `trainer.goals`); both in the examples' order."""
    aimed = [bool(example.metric) and example.metric in goals for example in examples]
    return (
        [example for example, goal in zip(examples, aimed, strict=True) if not goal],
        [example for example, goal in zip(examples, aimed, strict=True) if goal],
    )


def unseen(examples: Sequence[Example], learnt: Sequence[Example]) -> list[Example]:
    """The examples whose prompt does not occur in what was learnt."""
    prompts = {example.prompt_hash for example in learnt}
    return [example for example in examples if example.prompt_hash not in prompts]


def lessons(examples: Sequence[Example], new: Collection[str], replay: int, seed: int) -> list[Example]:
    """All new examples (by feedback id), and `replayed` older ones: as many, but at least ``replay``, which may be 0 for none."""
    fresh = {example.feedback_id for example in examples if example.feedback_id in new}
    older = [example for example in examples if example.feedback_id not in new]
    chosen = fresh.union(example.feedback_id for example in replayed(older, max(len(fresh), replay) if replay else 0, seed))
    return [example for example in examples if example.feedback_id in chosen]


def replayed(older: Sequence[Example], count: int, seed: int) -> list[Example]:
    """``count`` of the older examples, or all: a sample stratified by what was judged, when, and by whom.

    In that order every n-th is taken, from a random start on (systematic sampling, Cochran 1977, chapter 8): each
    example is as likely as any other, and every kind, every tenth of the time and every rater has its share, give or take one.
    """
    if len(older) <= count:
        return list(older)
    if not count:
        return []
    by_time = sorted(older, key=lambda example: (example.time, example.feedback_id))
    tenth = {example.feedback_id: 10 * place // len(by_time) for place, example in enumerate(by_time)}
    ordered = sorted(by_time, key=lambda example: (example.kind, tenth[example.feedback_id], example.rater))
    step, start = len(ordered) / count, unit_interval("replay", str(seed))
    return [ordered[min(int((start + number) * step), len(ordered) - 1)] for number in range(count)]


def unit_interval(label: str, value: str) -> float:
    """A hash of both as a number in [0, 1)."""
    return int.from_bytes(hashlib.sha256(f"{label}\0{value}".encode()).digest()[:8], "big") / 2**64


def digest(examples: Sequence[Example]) -> str:
    """SHA-256 of which votes these are, what they say and on which texts."""
    return text_hash(json.dumps([example.said for example in examples]))
