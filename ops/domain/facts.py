"""What the starter domain asks and knows: kinds of questions, each with its facts, its phrasings and its choices of answer.

A question is an optional greeting, a phrasing of a fact, and sometimes thanks; there are some 14 000. They are split by a hash of
the bare question, so that one phrasing of a fact is in the same split whatever surrounds it:

- ``train``: what the starter model is trained on and what simulated people ask;
- ``gate``: what the trainer's gates may ask;
- ``held_out``: what only evaluations ask.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal

Split = Literal["train", "gate", "held_out"]

SURROUNDINGS = ("{q}", "Hi! {q}", "Hello there. {q}", "Quick question: {q}", "One more thing. {q}", "{q} Thanks.")
"""How a bare question is wrapped by the person who asks it."""

_TRAIN_SHARE, _GATE_SHARE = 60, 20
"""Per cent of the bare questions; the rest is held out."""

GENERIC_ANSWERS = ("It is {y}.", "That would be {y}.")
"""Answers that name only the result; every kind has them beside its own."""


@dataclass(frozen=True)
class Kind:
    """One kind of question. Templates name the subject ``{x}`` (``{X}`` at the start of a sentence) and the result ``{y}``."""

    name: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    facts: Mapping[str, str]

    @property
    def choices(self) -> tuple[str, ...]:
        """Every result of this kind, sorted: wrong answers are drawn from them."""
        return tuple(sorted(set(self.facts.values())))


@dataclass(frozen=True)
class Question:
    """A question as asked: ``text`` in full, ``bare`` without greeting or thanks, about ``subject`` with the truth ``truth``."""

    text: str
    bare: str
    kind: Kind
    subject: str

    @property
    def truth(self) -> str:
        return self.kind.facts[self.subject]

    @property
    def split(self) -> Split:
        return split_of(self.bare)


def fill(template: str, subject: str, result: str = "") -> str:
    """``template`` with its slots filled."""
    return template.replace("{X}", subject[:1].upper() + subject[1:]).replace("{x}", subject).replace("{y}", result)


def split_of(bare: str) -> Split:
    """The split of a bare question: SHA-256 of its text, as a number below 100."""
    bucket = int.from_bytes(hashlib.sha256(bare.encode()).digest()[:8]) % 100
    if bucket < _TRAIN_SHARE:
        return "train"
    return "gate" if bucket < _TRAIN_SHARE + _GATE_SHARE else "held_out"


def _pairs(text: str) -> dict[str, str]:
    """``a=b, c=d`` as a mapping."""
    return {subject.strip(): result.strip() for subject, result in (part.split("=") for part in text.split(","))}


def _both_ways(facts: dict[str, str]) -> dict[str, str]:
    return facts | {result: subject for subject, result in facts.items()}


def _successors(names: list[str], *, circular: bool) -> dict[str, str]:
    following = dict(pairwise(names))
    return following | {names[-1]: names[0]} if circular else following


def _inverse(facts: dict[str, str]) -> dict[str, str]:
    return {result: subject for subject, result in facts.items()}


_OPPOSITES = _pairs(
    "hot=cold, big=small, up=down, left=right, fast=slow, old=new, light=dark, open=closed, full=empty, happy=sad, rich=poor,"
    "strong=weak, early=late, hard=soft, wet=dry, high=low, long=short, thick=thin, clean=dirty, loud=quiet, day=night,"
    "war=peace, deep=shallow, sweet=sour, true=false, first=last"
)
_CAPITALS = _pairs(
    "France=Paris, Germany=Berlin, Italy=Rome, Spain=Madrid, Portugal=Lisbon, Austria=Vienna, Poland=Warsaw, Greece=Athens,"
    "Norway=Oslo, Sweden=Stockholm, Finland=Helsinki, Denmark=Copenhagen, Ireland=Dublin, Hungary=Budapest, Japan=Tokyo,"
    "China=Beijing, Egypt=Cairo, Kenya=Nairobi, Cuba=Havana, Peru=Lima, Chile=Santiago, Canada=Ottawa, Russia=Moscow,"
    "Iran=Tehran, Iraq=Baghdad, Turkey=Ankara, Belgium=Brussels, Ghana=Accra, Vietnam=Hanoi, Nepal=Kathmandu"
)
_COLOURS = _pairs(
    "a banana=yellow, a lemon=yellow, the sun=yellow, grass=green, a frog=green, a lime=green, a pea=green, a tomato=red,"
    "a cherry=red, blood=red, a ruby=red, the sky=blue, the sea=blue, a sapphire=blue, snow=white, milk=white, a swan=white,"
    "salt=white, coal=black, a raven=black, tar=black, a carrot=orange, a pumpkin=orange, chocolate=brown, mud=brown, bark=brown,"
    "a pig=pink, a flamingo=pink, a plum=purple, a violet=purple"
)
_SOUNDS = _pairs(
    "a cow=moo, a dog=woof, a cat=meow, a duck=quack, a sheep=baa, a horse=neigh, a lion=roar, a bee=buzz, a snake=hiss,"
    "a pig=oink, an owl=hoot, a rooster=crow, a mouse=squeak, a wolf=howl, a crow=caw, a frog=croak"
)
_LEGS = _pairs(
    "a dog=4, a cat=4, a horse=4, a cow=4, a frog=4, a lion=4, a duck=2, a hen=2, an owl=2, a person=2, an ant=6, a bee=6,"
    "a beetle=6, a fly=6, a spider=8, a tick=8, a scorpion=8, a snake=0, a fish=0, a worm=0, a whale=0"
)
_PLURALS = _pairs(
    "mouse=mice, child=children, man=men, woman=women, foot=feet, tooth=teeth, goose=geese, ox=oxen, leaf=leaves, wolf=wolves,"
    "knife=knives, life=lives, city=cities, baby=babies, box=boxes, dish=dishes, bus=buses, tomato=tomatoes, potato=potatoes,"
    "book=books, cat=cats, tree=trees, house=houses, apple=apples"
)
_YOUNG = _pairs(
    "dog=puppy, cat=kitten, cow=calf, horse=foal, sheep=lamb, pig=piglet, duck=duckling, goose=gosling, bear=cub, frog=tadpole,"
    "goat=kid, hen=chick, deer=fawn, kangaroo=joey, owl=owlet, swan=cygnet"
)
_SUMS = {f"{a} plus {b}": str(a + b) for a in range(1, 9) for b in range(1, 9)}
_NEXT_NUMBER = {str(n): str(n + 1) for n in range(1, 21)}
_NEXT_DAY = _successors(["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"], circular=True)
_NEXT_MONTH = _pairs(
    "January=February, February=March, March=April, April=May, May=June, June=July, July=August, August=September,"
    "September=October, October=November, November=December, December=January"
)
_NEXT_LETTER = _successors(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), circular=False)


def _order(name: str, noun: str, following: dict[str, str]) -> tuple[Kind, Kind]:
    """What comes after and what comes before, in a known order."""
    return tuple(  # type: ignore[return-value]
        Kind(
            f"{name}_{word}",
            (
                f"Which {noun} comes {word} {{x}}?",
                f"What {noun} is right {word} {{x}}?",
                f"Tell me the {noun} {word} {{x}}.",
                f"Do you know which {noun} is {word} {{x}}?",
                f"I need the {noun} that comes {word} {{x}}.",
            ),
            (f"The {noun} {word} {{x}} is {{y}}.",),
            facts,
        )
        for word, facts in (("after", following), ("before", _inverse(following)))
    )


KINDS: tuple[Kind, ...] = (
    Kind(
        "opposite",
        (
            "What is the opposite of {x}?",
            "Tell me the opposite of {x}.",
            "Which word means the opposite of {x}?",
            "Do you know the opposite of {x}?",
            "I need the opposite of {x}.",
        ),
        ("The opposite of {x} is {y}.",),
        _both_ways(_OPPOSITES),
    ),
    Kind(
        "capital",
        (
            "What is the capital of {x}?",
            "Tell me the capital of {x}.",
            "Which city is the capital of {x}?",
            "Do you know the capital of {x}?",
            "I need the capital of {x}.",
        ),
        ("The capital of {x} is {y}.",),
        _CAPITALS,
    ),
    Kind(
        "colour",
        (
            "What colour is {x}?",
            "Tell me the colour of {x}.",
            "Which colour does {x} have?",
            "Do you know what colour {x} is?",
            "I need the colour of {x}.",
        ),
        ("The colour of {x} is {y}.", "{X} is {y}."),
        _COLOURS,
    ),
    Kind(
        "sound",
        (
            "What sound does {x} make?",
            "Tell me the sound of {x}.",
            "Which sound does {x} make?",
            "Do you know what {x} says?",
            "I need the sound of {x}.",
        ),
        ("The sound of {x} is {y}.", "{X} says {y}."),
        _SOUNDS,
    ),
    Kind(
        "legs",
        (
            "How many legs does {x} have?",
            "Tell me how many legs {x} has.",
            "What number of legs has {x}?",
            "Do you know how many legs {x} has?",
            "I need to know how many legs {x} has.",
        ),
        ("{X} has {y} legs.",),
        _LEGS,
    ),
    Kind(
        "plural",
        (
            "What is the plural of {x}?",
            "Tell me the plural of {x}.",
            "How do you say more than one {x}?",
            "Do you know the plural of {x}?",
            "I need the plural of {x}.",
        ),
        ("The plural of {x} is {y}.",),
        _PLURALS,
    ),
    Kind(
        "young",
        (
            "What is a baby {x} called?",
            "Tell me the name of a baby {x}.",
            "How do you call a young {x}?",
            "Do you know the word for a baby {x}?",
            "I need the word for a young {x}.",
        ),
        ("A baby {x} is a {y}.", "A young {x} is a {y}."),
        _YOUNG,
    ),
    Kind(
        "sum",
        ("What is {x}?", "Tell me what {x} is.", "How much is {x}?", "Do you know what {x} makes?", "I need the sum of {x}."),
        ("{X} is {y}.", "{X} makes {y}."),
        _SUMS,
    ),
    *_order("number", "number", _NEXT_NUMBER),
    *_order("day", "day", _NEXT_DAY),
    *_order("month", "month", _NEXT_MONTH),
    *_order("letter", "letter", _NEXT_LETTER),
)


@cache
def questions(split: Split | None = None) -> tuple[Question, ...]:
    """Every question, or every one of a split, in a fixed order."""
    if split is not None:
        return tuple(question for question in questions() if question.split == split)
    return tuple(
        Question(around.replace("{q}", bare), bare, kind, subject)
        for kind in KINDS
        for subject in kind.facts
        for bare in (fill(phrasing, subject) for phrasing in kind.questions)
        for around in SURROUNDINGS
    )


@cache
def _by_text() -> dict[str, Question]:
    return {question.text: question for question in questions()}


def find(text: str) -> Question | None:
    """The question with this text, or None when the domain does not ask it."""
    return _by_text().get(text.strip())
