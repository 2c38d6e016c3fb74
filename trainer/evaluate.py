"""How much better has it got, by its domain's hidden taste without noise, on questions nobody was ever asked?"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from feedback.events import BASE
from ops.domain.domain import Domain
from ops.domain.known import domain_of
from ops.domain.starter import STARTER
from ops.errors import CommandError
from ops.evidence.intervals import wilson
from ops.models import prepared
from ops.registry import AdapterRefused, Registry
from ops.settings import Settings
from trainer.generate import generate
from trainer.load import dtype_of
from trainer.policy import AdapterModel

AT_ONCE = 64
"""Questions that are answered by everybody before the next ones are asked."""


def run_evaluation(
    settings: Settings,
    champion: str,
    initial: str,
    prompts: int,
    seconds: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Adapter ids, or "base". ``win_rate`` (with a 95 % interval) of ``champion`` over ``initial``, a draw being half a win,
    the share of answers with each of the domain's attributes, and the mean number of words. After ``seconds`` no more of the
    ``prompts`` are asked. Raises `CommandError` for a model that has no domain.
    """
    started, ref = clock(), prepared(settings)
    domain = domain_of(ref.name)
    folders = {"final": _folder(settings, champion), "initial": _folder(settings, initial)}
    model = _model(ref.path, folders)
    asked = ask(prompts, settings.seed, domain)
    said: dict[str, list[str]] = {name: [] for name in folders}
    how = {"temperature": ref.sampling(settings.sampling).temperature, "max_new_tokens": settings.sampling.max_tokens}
    for start in range(0, len(asked), AT_ONCE):
        if start and seconds is not None and clock() - started > seconds:
            break
        for name, texts in _said(model, folders, asked[start : start + AT_ONCE], seed=settings.seed + start, **how).items():
            said[name] += texts
    return compare(asked[: len(said["final"])], said["initial"], said["final"], domain)


def ask(count: int, seed: int, domain: Domain = STARTER) -> list[str]:
    """At most ``count`` different held-out questions."""
    pool = domain.asked("held_out")
    return random.Random(seed).sample(pool, min(count, len(pool)))


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
    model = _model(model_path, adapters)
    return _said(model, adapters, asked, temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)


def _folder(settings: Settings, adapter: str) -> Path | None:
    """Of an adapter that may be loaded; None for "base"."""
    if adapter == BASE:
        return None
    registry = Registry(settings.adapters_dir)
    try:
        registry.verify(adapter, settings.engine.max_lora_rank)
    except (AdapterRefused, LookupError) as error:
        raise CommandError(str(error)) from error
    return registry.path(adapter)


def _model(path: str, adapters: Mapping[str, Path | None]) -> AdapterModel:
    """In its own precision, as it is served and trained."""
    model = AdapterModel.load(path, rank=16, alpha=32, dtype=dtype_of(path))
    for name, folder in adapters.items():
        if folder is not None:
            model.add(name, source=folder)
    return model


def _said(model: AdapterModel, adapters: Mapping[str, Path | None], asked: Sequence[str], **how: Any) -> dict[str, list[str]]:
    prompts = [model.encode_prompt([{"role": "user", "content": question}]) for question in asked]
    said = {}
    for name, folder in adapters.items():
        replies = generate(model, BASE if folder is None else name, prompts, **how)
        said[name] = [model.decode_answer(reply[0].tokens) for reply in replies]
    return said


def compare(asked: Sequence[str], initial: Sequence[str], final: Sequence[str], domain: Domain = STARTER) -> dict[str, Any]:
    """The figures of `run_evaluation`."""
    outcomes = [domain.preference(question, b, a) for question, a, b in zip(asked, initial, final, strict=True)]
    low, high = wilson(sum(outcomes), len(outcomes))
    said = {"initial": initial, "final": final}
    looks = {name: [domain.look(*pair) for pair in zip(asked, texts, strict=True)] for name, texts in said.items()}
    shares = {
        figure: {name: sum(getattr(look, attribute) for look in each) / len(each) for name, each in looks.items()}
        for figure, attribute in domain.figures.items()
    }
    words = {name: mean(len(text.split()) for text in texts) for name, texts in said.items()}
    rate = {"value": sum(outcomes) / len(outcomes), "low": low, "high": high, "n": len(outcomes)}
    return {"win_rate": rate, **shares, "words": words}
