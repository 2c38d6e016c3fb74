"""Words of a text as somebody who skims it sees them: without endings, and without those that every text has."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")

_ENDINGS = ("ings", "ing", "ers", "ies", "er", "ed", "es", "ly", "s", "e", "y")
_SHORTEST_STEM = 3

_COMMON = """
a about after all also am an and any are as at be because been before being but by can could did do does doing don't each for
from get had has have having he her here hers him his how i i'm if in into is it it's its just let like make many may me more
most much must my no not now of often on one only or other our out over people person really same she should so some something
such than that that's the their them then there these they thing things this those to too two up us use used very was way we
well were what when where which while who why will with would yes you your
"""
_STOP_WORDS = frozenset(_COMMON.split())


def words(text: str) -> list[str]:
    """In lower case, without signs and figures."""
    return _WORD.findall(text.lower().replace("’", "'"))


def stem(word: str) -> str:
    """``baking`` and ``bake`` are the same, and so are ``planet`` and ``planets``; crude, and good enough to compare by."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return word.removesuffix(ending)
    return word


def content_stems(text: str) -> frozenset[str]:
    """The different stems of the words that say something."""
    return frozenset(stem(word) for word in words(text) if word not in _STOP_WORDS)


def sentences(text: str) -> Sequence[str]:
    """Cut after ``.``, ``!`` and ``?``, and at line ends."""
    return [part for part in (part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", text)) if part]
