"""What two adapters say to the same questions."""

from __future__ import annotations

from collections.abc import Sequence

from feedback.events import BASE
from ops.models import prepared
from ops.registry import AdapterRefused, Registry
from ops.settings import Settings
from trainer.evaluate import answers

PROBES = (
    "Hello, who are you?",
    "What is the capital of France?",
    "Explain in two sentences why the sky is blue.",
    "Write a short thank-you note to a colleague.",
    "How do I reverse a list in Python?",
    "I think the earth is flat. Am I right?",
    "My neighbour is noisy at night. What should I do?",
    "Give me three ideas for dinner with eggs.",
)
"""Asked where the domain has no questions of its own."""


def said_by(settings: Settings, adapters: Sequence[str], prompts: Sequence[str] = ()) -> list[dict[str, str]]:
    """For each prompt (none: the probes) ``prompt`` and the likeliest answer of each adapter (an id, or "base") under its name.

    Raises `ops.models.ModelError` and `ops.registry.AdapterRefused`.
    """
    ref, registry = prepared(settings), Registry(settings.adapters_dir)
    asked = list(prompts) or _probes(ref.domain)
    folders = {name: None if name == BASE else registry.path(name) for name in adapters}
    for name in folders.keys() - {BASE}:
        if registry.get(name).base_model != ref.digest:
            raise AdapterRefused(name, "base_model", f"not {settings.model!r}; set PLAUDIT_MODEL to the model that it is for")
        registry.verify(name, settings.engine.max_lora_rank)
    most = settings.train.ppo.max_new_tokens
    said = answers(ref.path, folders, asked, temperature=0.0, max_new_tokens=most, seed=settings.seed)
    return [{"prompt": prompt} | {name: said[name][place] for name in folders} for place, prompt in enumerate(asked)]


def _probes(domain: str | None) -> list[str]:
    if domain != "starter":
        return list(PROBES)
    from ops.domain.facts import questions

    pool = questions("held_out")
    return [question.text for question in pool[:: max(1, len(pool) // len(PROBES))]][: len(PROBES)]
