"""Simulated people's votes on answers that no model made, for benches that need something to learn from: no engine is asked."""

from __future__ import annotations

import random

from feedback.events import BASE, Event, Preference
from ops.domain.corpus import Mix, answer
from ops.domain.facts import find
from ops.domain.people import crowd
from ops.domain.votes import FIRST, SECONDS_BETWEEN, Asking, Shown


def votes_of(count: int, project: str, *, people: int = 40, seed: int = 0) -> list[Event]:
    """``count`` preferences between two answers to a question of the starter domain, with their completions."""
    rng, voters, mix = random.Random(f"votes {seed}"), crowd(people, seed=seed), Mix()
    made: list[Event] = []
    for place in range(count):
        person = voters[place % people]
        asked = person.ask(rng)[-1]["content"]
        question = find(asked)
        assert question is not None
        texts = [answer(question, rng, mix).text for _ in "ab"]
        asking = Asking(project, person.name, asked, FIRST + SECONDS_BETWEEN * place, f"cmp_bench-{place}")
        shown = [Shown(f"chatcmpl-bench-{place}-{side}", BASE, text) for side, text in zip("ab", texts, strict=True)]
        made += asking.events(shown, f"fb_bench-{place}", Preference(value=person.prefer(asked, *texts)))
    return made
