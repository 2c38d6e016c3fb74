"""Simulated people's votes on answers that no model made, for benches that need something to learn from: no engine is asked."""

from __future__ import annotations

import random

from feedback.events import BASE, CompletionCreated, CompletionText, Event, Exposure, FeedbackSet, Message, Preference, Target
from ops.domain.corpus import Mix, answer
from ops.domain.facts import find
from ops.domain.people import crowd

_FIRST = 1_750_000_000.0
"""Unix time of the first vote; one follows every half a minute."""


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
        ids = tuple(f"chatcmpl-bench-{place}-{side}" for side in "ab")
        facts: list[CompletionCreated | FeedbackSet] = [
            CompletionCreated(
                completion_id=id,
                comparison_id=f"cmp_bench-{place}",
                position=side,
                conversation=f"bench-{place}",
                user=person.name,
                text=CompletionText(messages=(Message(role="user", content=asked),), answer=text),
                exposure=Exposure(completion_id=id, adapter=BASE),
                finish_reason="stop",
            )
            for side, (id, text) in enumerate(zip(ids, texts, strict=True))
        ]
        facts.append(
            FeedbackSet(
                feedback_id=f"fb_bench-{place}",
                target=Target(completion_ids=ids, comparison_id=f"cmp_bench-{place}"),
                rater=person.name,
                judgement=Preference(value=person.prefer(asked, *texts)),
                exposures=tuple(fact.exposure for fact in facts if isinstance(fact, CompletionCreated)),
                source="simulated",
            )
        )
        time = _FIRST + 30.0 * place
        made += [
            Event(id=f"bench-{place}-{n}", time=time, project=project, key=f"bench-{place}", data=fact)
            for n, fact in enumerate(facts)
        ]
    return made
