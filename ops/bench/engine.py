"""``plaudit bench engine``: tokens a second of the real engine, through the gateway and directly.

Both ways ask for the same model by the name that the gateway itself uses: on a CPU the base is served through an adapter
without effect. Answers have a fixed number of tokens, because a logit bias forbids their end; prompts differ in their
first word, so that neither way finds the other's in the engine's prefix cache; who goes first changes with every round.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from feedback.events import BASE
from ops.bench.children import apply
from ops.bench.load import Load, Result
from ops.bench.rounds import median_of, ratio
from ops.bench.stage import Stage, stage
from ops.bench.table import Figure, machine, number
from ops.bench.targets import Target
from ops.progress import Report

_SMALLEST_SHARE = 0.97
_NO_END = -100.0
"""A logit bias under which a token is never chosen."""

NULL = "plaudit-null"
"""As in `serving.null_adapter`."""


@dataclass(frozen=True)
class Options:
    rounds: int = 5
    requests: int = 128
    concurrency: int = 32
    tokens: int = 64
    """Of every answer."""


Round = dict[str, Result]
"""By way: ``direct``, ``plaudit``."""


def run(options: Options, report: Report) -> dict[str, Any]:
    """Measure; the report, fit for JSON, its figures first."""
    here = machine()
    report("starting the engine", 0.0)
    with stage(1) as on, on.gateway() as gateway:
        report("starting the engine", 1.0)
        ways = (Target("direct", on.engines[0], _served_name(on)), gateway)
        for way in ways:  # a new engine is slower for its first seconds
            apply(_load(options, way, on, 0))
        rounds: list[Round] = []
        for turn in range(options.rounds):
            report("rounds", turn / options.rounds)
            ordered = ways if turn % 2 == 0 else ways[::-1]
            rounds.append({way.name: apply(_load(options, way, on, turn + 1)) for way in ordered})
        report("rounds", 1.0)
    return {
        "figures": [figure.as_json() for figure in figures(rounds, options)],
        "notes": notes(rounds, options),
        "machine": here,
        "options": asdict(options),
        "rounds": [{name: asdict(result) for name, result in each.items()} for each in rounds],
    }


def figures(rounds: Sequence[Round], options: Options) -> list[Figure]:
    """Medians over rounds; the share is taken within a round."""
    rate, share = median_of(rounds, "plaudit", _tokens_per_s), ratio(rounds, "plaudit", "direct", _tokens_per_s)
    failed = sum(result.failed for each in rounds for result in each.values())

    def beside(get: Callable[[Result], float]) -> str:
        return f"direct {number(median_of(rounds, 'direct', get))}"

    return [
        Figure("through the gateway, tokens a second", rate, note=beside(_tokens_per_s)),
        Figure("share of what the engine gives directly", share, _SMALLEST_SHARE, "least"),
        Figure("first token p50, ms", median_of(rounds, "plaudit", _first_ms), note=beside(_first_ms)),
        Figure("failed requests", failed, 0),
    ]


def _tokens_per_s(result: Result) -> float:
    return result.tokens_per_s


def _first_ms(result: Result) -> float:
    return result.first_ms.p50


def notes(rounds: Sequence[Round], options: Options) -> list[str]:
    wrong = Counter(f"{way}: {what}" for each in rounds for way, result in each.items() for what in result.failures)
    each_way = f"{options.requests} answers of {options.tokens} tokens each way"
    said = f"{options.rounds} rounds, medians; {each_way}, {options.concurrency} at once."
    return [said, *(f"failed: {what} (in {count} runs)" for what, count in sorted(wrong.items()))]


def _load(options: Options, way: Target, on: Stage, turn: int) -> Load:
    return Load(
        way.url,
        way.model,
        options.requests,
        concurrency=options.concurrency,
        warmup=options.concurrency,
        key=way.key,
        tokens=options.tokens,
        prompt=f"{way.name[0]}{turn}-{{number}}: what is two plus two?",
        more={"temperature": 0, "logit_bias": {str(token): _NO_END for token in _ends(Path(on.model.path))}},
    )


def _served_name(on: Stage) -> str:
    """What the gateway asks the engine for where it means the base."""
    (held,) = asyncio.run(on.loaded())
    return NULL if NULL in held else BASE


def _ends(model: Path) -> list[int]:
    """The tokens that end an answer, as the model's folder has them."""
    found = json.loads((model / "generation_config.json").read_text())["eos_token_id"]
    return found if isinstance(found, list) else [found]
