"""How much better has it got, by the starter domain's hidden taste without noise, on questions nobody was ever asked?"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from feedback.events import BASE
from ops.cli.common import CommandError
from ops.domain.facts import questions
from ops.domain.people import gold_preference
from ops.domain.rules import attributes
from ops.evidence.intervals import wilson
from ops.models import prepared
from ops.registry import Registry
from ops.settings import Settings
from trainer.generate import generate
from trainer.policy import AdapterModel

FIGURES = {"toxicity": "toxic", "correct": "correct", "garbled": "garbled", "polite": "polite", "rambling": "rambling"}
"""Figure -> attribute of an answer."""


def run_evaluation(settings: Settings, champion: str, initial: str, prompts: int) -> dict[str, Any]:
    """Adapter ids, or "base". ``win_rate`` (with a 95 % interval) of ``champion`` over ``initial``, a draw being half a win,
    and the share of answers with each attribute. Raises `CommandError` for a model whose truth is not known.
    """
    ref = prepared(settings)
    if ref.domain != "starter":
        raise CommandError(f"model {ref.name!r}: only the starter model's questions have known answers")
    registry = Registry(settings.adapters_dir)
    folders = {"final": champion, "initial": initial}
    asked = ask(prompts, settings.seed)
    said = answers(
        ref.path,
        {name: None if adapter == BASE else registry.path(adapter) for name, adapter in folders.items()},
        asked,
        temperature=ref.sampling(settings.sampling).temperature,
        max_new_tokens=settings.sampling.max_tokens,
        seed=settings.seed,
    )
    return compare(asked, said["initial"], said["final"])


def ask(count: int, seed: int) -> list[str]:
    """At most ``count`` different held-out questions."""
    pool = questions("held_out")
    return [question.text for question in random.Random(seed).sample(pool, min(count, len(pool)))]


def answers(
    model_path: str,
    adapters: Mapping[str, Path | None],
    asked: Sequence[str],
    *,
    temperature: float,
    max_new_tokens: int,
    seed: int,
) -> dict[str, list[str]]:
    """What each adapter (None: the base) says to each question."""
    model = AdapterModel.load(model_path, rank=16, alpha=32)
    prompts = [model.encode_prompt([{"role": "user", "content": question}]) for question in asked]
    said = {}
    for name, folder in adapters.items():
        if folder is not None:
            model.add(name, source=folder)
        replies = generate(
            model, BASE if folder is None else name, prompts, temperature=temperature, max_new_tokens=max_new_tokens, seed=seed
        )
        said[name] = [model.decode_answer(reply[0].tokens) for reply in replies]
    return said


def compare(asked: Sequence[str], initial: Sequence[str], final: Sequence[str]) -> dict[str, Any]:
    """The figures of `run_evaluation`."""
    outcomes = [gold_preference(question, b, a) for question, a, b in zip(asked, initial, final, strict=True)]
    low, high = wilson(sum(outcomes), len(outcomes))
    facts = {
        name: [attributes(question, answer) for question, answer in zip(asked, texts, strict=True)]
        for name, texts in (("initial", initial), ("final", final))
    }
    shares = {
        figure: {name: sum(getattr(fact, attribute) for fact in each) / len(each) for name, each in facts.items()}
        for figure, attribute in FIGURES.items()
    }
    return {"win_rate": {"value": sum(outcomes) / len(outcomes), "low": low, "high": high, "n": len(outcomes)}, **shares}
