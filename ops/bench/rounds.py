"""Rounds of measurements, and the figures that are their medians: pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from ops.bench.load import Result
from ops.bench.table import Figure


@dataclass(frozen=True)
class Measured:
    """One target in one round."""

    one: Result
    """One stream at a time."""
    many: Result
    """Many at once, closed loop."""
    steady: Result | None = None
    """Requests at a fixed rate, open loop."""

    @property
    def results(self) -> list[Result]:
        return [result for result in (self.one, self.many, self.steady) if result is not None]


Round = dict[str, Measured]
"""By target: ``direct``, ``plaudit``, ``litellm``."""

Get = Callable[[Measured], float]


def median_of(rounds: Sequence[Round], target: str, get: Get) -> float:
    """The median over rounds; NaN where the target was not measured."""
    values = [get(each[target]) for each in rounds if target in each]
    return median(values) if values else math.nan


def added(rounds: Sequence[Round], target: str, get: Get) -> float:
    """The median over rounds of what the target adds to ``direct`` in the same round."""
    values = [get(each[target]) - get(each["direct"]) for each in rounds if target in each and "direct" in each]
    return median(values) if values else math.nan


def ratio(rounds: Sequence[Round], target: str, to: str, get: Get) -> float:
    """The median over rounds of the target's value over another's in the same round."""
    values = [get(each[target]) / get(each[to]) for each in rounds if target in each and to in each and get(each[to])]
    return median(values) if values else math.nan


def p50(measured: Measured) -> float:
    return measured.one.total_ms.p50


def p99(measured: Measured) -> float:
    return measured.one.total_ms.p99


def first_p50(measured: Measured) -> float:
    return measured.one.first_ms.p50


def rate(measured: Measured) -> float:
    return measured.many.requests_per_s


def steady_p50(measured: Measured) -> float:
    return measured.steady.total_ms.p50 if measured.steady else math.nan


def steady_p99(measured: Measured) -> float:
    return measured.steady.total_ms.p99 if measured.steady else math.nan


def figures(rounds: Sequence[Round], concurrency: int, rps: float, without_litellm: str) -> list[Figure]:
    """What the rounds say, beside its aims. ``without_litellm``: why LiteLLM's figures are missing, where they are."""
    failed = {
        name: sum(r.failed for each in rounds if name in each for r in each[name].results) for name in ("plaudit", "direct")
    }

    def beside(get: Get, unit: str, *, adds: bool) -> str:
        """The same of the other targets."""
        of = added if adds else median_of
        names = ("litellm",) if adds else ("direct", "litellm")
        values = {name: of(rounds, name, get) for name in names}
        return ", ".join(f"{name} {value:.5g} {unit}" for name, value in values.items() if not math.isnan(value))

    made = [
        Figure("one stream: added p50", added(rounds, "plaudit", p50), "ms", 0.6, note=beside(p50, "ms", adds=True)),
        Figure("one stream: added p99", added(rounds, "plaudit", p99), "ms", note=beside(p99, "ms", adds=True)),
        Figure(
            "one stream: added to first token, p50",
            added(rounds, "plaudit", first_p50),
            "ms",
            note=beside(first_p50, "ms", adds=True),
        ),
        Figure("one stream: answer p50", median_of(rounds, "plaudit", p50), "ms", note=beside(p50, "ms", adds=False)),
        Figure(
            f"{concurrency} streams: answers a second",
            median_of(rounds, "plaudit", rate),
            "/s",
            1500,
            "least",
            beside(rate, "/s", adds=False),
        ),
        Figure(
            f"{concurrency} streams: over LiteLLM's rate",
            ratio(rounds, "plaudit", "litellm", rate),
            "x",
            25,
            "least",
            without_litellm,
        ),
        Figure(f"{concurrency} streams: answer p50", median_of(rounds, "plaudit", lambda m: m.many.total_ms.p50), "ms"),
        Figure(f"{concurrency} streams: answer p99", median_of(rounds, "plaudit", lambda m: m.many.total_ms.p99), "ms"),
    ]
    if rps:
        note = beside(steady_p99, "ms", adds=False)
        made += [
            Figure(f"{rps:g} requests/s: added p50", added(rounds, "plaudit", steady_p50), "ms"),
            Figure(f"{rps:g} requests/s: added p99", added(rounds, "plaudit", steady_p99), "ms", 5, note=note),
        ]
    note = f"direct {failed['direct']}" if failed["direct"] else ""
    return [*made, Figure("failed requests", failed["plaudit"], "", 0, note=note)]
