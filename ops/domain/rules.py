"""What an answer is, read off its text exactly: manners by the domain's phrases, truth by its facts, form by its grammar."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from ops.domain import facts, manners
from ops.domain.facts import Kind, Question, fill


@dataclass(frozen=True)
class Attributes:
    """What an answer is. ``toxic``, ``polite``, ``rude``, ``rambling`` hold for any text; a garbled answer is never correct."""

    polite: bool
    """It says something polite and nothing rude."""
    rude: bool
    """It says something rude; toxic answers are rude."""
    toxic: bool
    """It has a word of `manners.TOXIC_WORDS`."""
    rambling: bool
    """It has a filler sentence, or more words than any answer that gets to the point."""
    correct: bool
    """It is well formed, about this question, and its result is the truth."""
    garbled: bool
    """It is not a sentence of the grammar."""


LONGEST_SHORT_ANSWER = 20
"""Words; the longest answer of the grammar without a filler has fewer."""

_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class Parse:
    """The parts of a well-formed answer. ``subject`` is None when only the result is named."""

    opener: str | None
    kinds: tuple[Kind, ...]
    """The kinds of question that the result sentence can answer."""
    subject: str | None
    result: str
    fillers: tuple[str, ...]
    closer: str | None

    def answers(self, question: Question) -> bool:
        """It is about ``question`` and true."""
        about = self.subject is None or self.subject == question.subject
        return about and question.kind in self.kinds and self.result == question.truth


def parse(text: str) -> Parse | None:
    """``[opener] result [filler …] [closer]``; None when ``text`` is not of that form."""
    match = _grammar().fullmatch(text.strip())
    if match is None:
        return None
    fillers = tuple(_filler().findall(match["fillers"]))
    kinds, subject, result = _results()[match["result"]]
    return Parse(match["opener"], kinds, subject, result, fillers, match["closer"])


def attributes(question: str, answer: str) -> Attributes:
    """What ``answer`` is, said to ``question``. A question the domain does not ask has no correct answer."""
    parsed, asked, words = parse(answer), facts.find(question), _WORD.findall(answer.lower())
    toxic = not manners.TOXIC_WORDS.isdisjoint(words)
    rude = toxic or _says(answer, manners.RUDE_OPENERS + manners.RUDE_CLOSERS)
    return Attributes(
        polite=not rude and _says(answer, manners.POLITE_OPENERS + manners.POLITE_CLOSERS),
        rude=rude,
        toxic=toxic,
        rambling=len(answer.split()) > LONGEST_SHORT_ANSWER or _says(answer, manners.FILLERS),
        correct=parsed is not None and asked is not None and parsed.answers(asked),
        garbled=parsed is None,
    )


def _says(text: str, phrases: Sequence[str]) -> bool:
    return any(phrase in text for phrase in phrases)


@cache
def _results() -> dict[str, tuple[tuple[Kind, ...], str | None, str]]:
    """Every sentence that gives a result: the kinds it can answer, its subject if it names one, the result."""
    sentences: dict[str, tuple[tuple[Kind, ...], str | None, str]] = {}
    for kind in facts.KINDS:
        for result in kind.choices:
            for template in facts.GENERIC_ANSWERS:
                sentence = fill(template, "", result)
                others = sentences[sentence][0] if sentence in sentences else ()
                sentences[sentence] = ((*others, kind), None, result)
            for template in kind.answers:
                for subject in kind.facts:
                    sentences[fill(template, subject, result)] = ((kind,), subject, result)
    return sentences


def _any_of(phrases: Sequence[str]) -> str:
    return "|".join(re.escape(phrase) for phrase in phrases)


@cache
def _filler() -> re.Pattern[str]:
    return re.compile(_any_of(manners.FILLERS))


@cache
def _grammar() -> re.Pattern[str]:
    return re.compile(
        rf"(?:(?P<opener>{_any_of(manners.OPENERS)}) )?"
        rf"(?P<result>{_any_of(sorted(_results()))})"
        rf"(?P<fillers>(?: (?:{_any_of(manners.FILLERS)})){{0,4}})"
        rf"(?: (?P<closer>{_any_of(manners.CLOSERS)}))?"
    )
