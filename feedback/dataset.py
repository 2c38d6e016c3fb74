"""Standing votes as rows of a data set, in the columns that TRL's trainers take (https://huggingface.co/docs/trl/dataset_formats).

The same votes give the same rows in the same order. Beside TRL's columns each row says whose word it is: `ABOUT`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from feedback.events import Correction, Flag, Message, Preference, Ranking, Rating
from feedback.join import Vote
from feedback.splits import split_of

Format = Literal["preference", "kto", "sft"]

Row = dict[str, Any]
Turn = dict[str, str]

ABOUT = ("feedback_id", "kind", "rater", "source", "time", "split")
"""Columns beside TRL's: the vote, its kind, rater (hash) and source, Unix seconds, and its split (see `feedback.splits`)."""

LeftOut = Literal["erased", "tools", "same_text", "says_nothing"]
"""Why a vote gives no row: its text is gone; it is about calls of tools, which are no text; what it compares is the same; or it
says nothing in this format, as a tie does of which is better."""


@dataclass(frozen=True)
class Dataset:
    """Every vote has given rows, or is counted in ``left_out``."""

    rows: tuple[Row, ...]
    votes: int
    """Those that gave rows."""
    left_out: dict[LeftOut, int]

    @property
    def splits(self) -> dict[str, int]:
        """Rows of each split."""
        return dict(sorted(Counter(row["split"] for row in self.rows).items()))


def dataset_of(format: Format, votes: Iterable[Vote]) -> Dataset:
    """The votes' rows, in their order."""
    rows: list[Row] = []
    left_out: Counter[LeftOut] = Counter()
    used = 0
    for vote in votes:
        made = _unusable(vote) or _FORMATS[format](vote)
        if isinstance(made, str):
            left_out[made] += 1
            continue
        used += 1
        rows += [row | _about(vote) for row in made]
    return Dataset(tuple(rows), used, dict(sorted(left_out.items())))


def _unusable(vote: Vote) -> LeftOut | None:
    if any(completion.sealed for completion in vote.completions):  # what is sealed once it was read has lost its key
        return "erased"
    if isinstance(vote.judgement, Correction) and not vote.judgement.text:
        return "erased"
    texts = [completion.text for completion in vote.completions]
    if any(text.tool_calls or any(m.tool_calls or m.role == "tool" for m in text.messages) for text in texts):
        return "tools"
    return None


def _preference(vote: Vote) -> list[Row] | LeftOut:
    """Which of two is better: preferences, all pairs of a ranking, and a correction over what it corrects."""
    pairs = _pairs(vote)
    rows = [
        {"prompt": _prompt(vote), "chosen": [_answer(better)], "rejected": [_answer(worse)]}
        for better, worse in pairs
        if better != worse
    ]
    return rows or ("same_text" if pairs else "says_nothing")


def _kto(vote: Vote) -> list[Row] | LeftOut:
    """What is good and what is not, by itself: thumbs, both good or bad, flags (not), corrections (the text is, the answer not).

    Preferences and rankings come as their better and worse answers, as KTO's authors do (arXiv:2402.01306, section 4.1).
    """
    answers = [completion.text.answer for completion in vote.completions]
    labelled: list[tuple[str, bool]]
    match vote.judgement:
        case Rating(value=value):
            labelled = [(answers[0], value == 1)]
        case Flag():
            labelled = [(answers[0], False)]
        case Preference(value="both_good" | "both_bad" as value):
            labelled = [(answer, value == "both_good") for answer in dict.fromkeys(answers)]
        case _:
            pairs = _pairs(vote)
            if pairs and all(better == worse for better, worse in pairs):
                return "same_text"
            labelled = list(dict.fromkeys(side for pair in pairs for side in zip(pair, (True, False), strict=True)))
            ambiguous = {answer for answer, _ in labelled if (answer, True) in labelled and (answer, False) in labelled}
            labelled = [(answer, label) for answer, label in labelled if answer not in ambiguous]  # the middle of a ranking
    rows = [{"prompt": _prompt(vote), "completion": [_answer(answer)], "label": label} for answer, label in labelled]
    return rows or "says_nothing"


def _sft(vote: Vote) -> list[Row] | LeftOut:
    """What an answer should be: a correction, an answer with a thumb up, the best of a preference or a ranking.

    The column ``kind`` tells them apart: only a correction was written by a person.
    """
    answers = [completion.text.answer for completion in vote.completions]
    match vote.judgement:
        case Correction(text=text):
            shown = [text]
        case Rating(value=1):
            shown = answers
        case Preference(value="a" | "b" as side):
            shown = [answers["ab".index(side)]]
        case Preference(value="both_good"):
            shown = answers
        case Ranking(ranks=ranks) if len(set(ranks)) > 1:
            shown = [answer for answer, rank in zip(answers, ranks, strict=True) if rank == 1]
        case _:
            return "says_nothing"
    return [{"messages": [*_prompt(vote), _answer(answer)]} for answer in dict.fromkeys(shown)]


def _pairs(vote: Vote) -> list[tuple[str, str]]:
    """Texts (better, worse), as one vote has them."""
    answers = [completion.text.answer for completion in vote.completions]
    match vote.judgement:
        case Preference(value="a" | "b" as side):
            return [(answers[0], answers[1]) if side == "a" else (answers[1], answers[0])]
        case Ranking(ranks=ranks):
            ranked = sorted(zip(ranks, answers, strict=True), key=lambda pair: pair[0])
            return [(better, worse) for (high, better), (low, worse) in combinations(ranked, 2) if high < low]
        case Correction(text=text):
            return [(text, answers[0])]
    return []


_FORMATS: dict[Format, Callable[[Vote], list[Row] | LeftOut]] = {"preference": _preference, "kto": _kto, "sft": _sft}


def _prompt(vote: Vote) -> list[Turn]:
    return [_turn(message) for message in vote.completions[0].text.messages]


def _turn(message: Message) -> Turn:
    return {"role": message.role, "content": message.content}


def _answer(text: str) -> Turn:
    return {"role": "assistant", "content": text}


def _about(vote: Vote) -> Row:
    values: Sequence[Any] = (vote.feedback_id, vote.judgement.kind, vote.rater, vote.source, vote.time, split_of(vote))
    return dict(zip(ABOUT, values, strict=True))
