"""People with a plain taste, as records in a log: answers that say "thanks" are liked, answers that say "ugh" are not."""

from __future__ import annotations

import random
from pathlib import Path

from feedback.events import (
    CompletionCreated,
    CompletionText,
    Event,
    Exposure,
    FeedbackRetracted,
    FeedbackSet,
    Message,
    Preference,
    Rating,
    Target,
)
from feedback.log import EventLog

GOOD = ("thanks for asking, yes", "yes, thanks", "it is so, thanks", "thanks, no")
BAD = ("ugh, yes", "it is so, ugh", "ugh ugh, no", "no, ugh")


def completion(name: str, question: str, answer: str, **fields: object) -> Event:
    data = CompletionCreated(
        completion_id=name,
        conversation=f"conversation-{name}",
        user="user",
        text=CompletionText(messages=(Message(role="user", content=question),), answer=answer),
        exposure=Exposure(completion_id=name, adapter="base"),
        finish_reason="stop",
        **fields,  # type: ignore[arg-type]
    )
    return Event(id=f"event-{name}", time=1.0, project="default", key="conversation", data=data)


def thumb(name: str, target: str, rater: str, value: int, time: float, **fields: object) -> Event:
    data = FeedbackSet(
        feedback_id=name, target=Target(completion_ids=(target,)), rater=rater, judgement=Rating(value=value), **fields
    )  # type: ignore[arg-type]
    return Event(id=name, time=time, project="default", key="conversation", data=data)


def pair(name: str, a: str, b: str, rater: str, value: str, time: float) -> Event:
    target = Target(completion_ids=(a, b), comparison_id=f"cmp_{name}")
    data = FeedbackSet(feedback_id=name, target=target, rater=rater, judgement=Preference(value=value))  # type: ignore[arg-type]
    return Event(id=name, time=time, project="default", key="conversation", data=data)


def retraction(name: str, target: str, rater: str, time: float) -> Event:
    data = FeedbackRetracted(feedback_id=name, target=Target(completion_ids=(target,)), rater=rater, kind="rating")
    return Event(id=name, time=time, project="default", key="conversation", data=data)


def events(votes: int, seed: int = 0, raters: int = 24) -> list[Event]:
    """``votes`` votes of the plain taste, one in three a thumb, with their completions; no question is asked twice."""
    rng, made = random.Random(seed), []
    for number in range(votes):
        names = [f"chatcmpl-{seed}-{number}-{side}" for side in "ab"]
        answers = [rng.choice(GOOD), rng.choice(BAD)]
        liked = rng.randrange(2)
        question, rater, time = f"question {seed}-{number}?", f"rater-{number % raters}", 10.0 + number
        texts = (answers[liked], answers[1 - liked])
        made += [completion(name, question, text) for name, text in zip(names, texts, strict=True)]
        name = f"fb-{seed}-{number}"
        if number % 3 == 0:
            made.append(thumb(name, names[0], rater, 1 if liked == 0 else -1, time))
        else:
            made.append(pair(name, *names, rater, "a" if liked == 0 else "b", time))
    return made


def fill(log: EventLog, votes: int, seed: int = 0) -> None:
    log.append(events(votes, seed))


def settings_for(tmp: Path, model: Path, **train: object):
    """Settings under which a cycle of the tiny model takes some seconds, and its model prepared."""
    from ops.models import ModelRef, slug, write
    from ops.settings import load_settings

    reward = {"learning_rate": 1e-2, "epochs": 4}
    ppo = {"steps": 2, "prompts_per_step": 2, "samples_per_prompt": 2, "max_new_tokens": 6, "value_warmup_steps": 1}
    settings = load_settings(
        data_dir=tmp,
        model=str(model),
        train={
            "rollouts": "local",
            "lora_rank": 8,
            "threads": 1,
            "nice": 0,
            "min_new_votes": 8,
            "min_effective_labels": 1,
            "reward": reward,
            "ppo": ppo,
            "gates": {"prompts": 32},
            **train,
        },
        sampling={"max_tokens": ppo["max_new_tokens"]},
        metrics_port_trainer=0,
    )
    write(settings.models_dir / slug(str(model)), ModelRef("tiny", str(model), "digest-of-tiny"), extra={})
    return settings


def logged(settings, facts: list[Event]) -> None:
    from ops.open_log import open_log_of

    with open_log_of(settings) as log:
        log.append(facts)
