"""Rounds of measurements, and the figures that are their medians: pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from ops.bench.load import Result
from ops.bench.table import Figure, Side, number


@dataclass(frozen=True)
class Measured:
    """One target in one round."""

    one: Result
    """One stream at a time."""
    many: Result
    """Many at once, closed loop."""
    steady: Result | None = None
    """Requests at a fixed rate, open loop."""
    cpu_ms: float = math.nan
    """CPU time of the target's processes for one of the many answers, in milliseconds."""

    @property
    def results(self) -> list[Result]:
        return [result for result in (self.one, self.many, self.steady) if result is not None]


Round = dict[str, Measured]
"""By target: ``direct``, ``plaudit``, ``litellm``."""

Get = Callable[[Measured], float]

T = TypeVar("T")


def median_of(rounds: Sequence[Mapping[str, T]], target: str, get: Callable[[T], float]) -> float:
    """The median over rounds; NaN where the target was not measured."""
    return _median([get(each[target]) for each in rounds if target in each])


def added(rounds: Sequence[Mapping[str, T]], target: str, get: Callable[[T], float]) -> float:
    """The median over rounds of what the target adds to ``direct`` in the same round."""
    return _median([get(each[target]) - get(each["direct"]) for each in rounds if target in each and "direct" in each])


def ratio(rounds: Sequence[Mapping[str, T]], target: str, to: str, get: Callable[[T], float]) -> float:
    """The median over rounds of the target's value over another's in the same round."""
    return _median([get(each[target]) / get(each[to]) for each in rounds if target in each and to in each and get(each[to])])


def _median(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return median(known) if known else math.nan


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


def cpu_ms(measured: Measured) -> float:
    return measured.cpu_ms


def figures(rounds: Sequence[Round], concurrency: int, rps: float, without_litellm: str) -> list[Figure]:
    """What the rounds say, beside its aims. ``without_litellm``: why LiteLLM's figures are missing, where they are."""
    one, many, steady = "one stream:", f"{concurrency} streams:", f"{rps:g} requests/s:"

    def adds(name: str, get: Get, aim: float | None = None) -> Figure:
        theirs = added(rounds, "litellm", get)
        return Figure(f"{name}, ms", added(rounds, "plaudit", get), aim, note=_beside({"litellm": theirs}))

    def is_(name: str, get: Get, aim: float | None = None, side: Side = "most") -> Figure:
        theirs = {target: median_of(rounds, target, get) for target in ("direct", "litellm")}
        return Figure(name, median_of(rounds, "plaudit", get), aim, side, _beside(theirs))

    made = [
        adds(f"{one} added p50", p50, 0.6),
        adds(f"{one} added p99", p99),
        adds(f"{one} added to first token, p50", first_p50),
        is_(f"{one} whole answer p50, ms", p50),
        is_(f"{many} answers a second", rate, 1500, "least"),
        Figure(f"{many} times LiteLLM's rate", ratio(rounds, "plaudit", "litellm", rate), 25, "least", without_litellm),
        is_(f"{many} whole answer p50, ms", lambda m: m.many.total_ms.p50),
        is_(f"{many} whole answer p99, ms", lambda m: m.many.total_ms.p99),
        is_(f"{many} CPU time an answer, ms", cpu_ms),
    ]
    if rps:
        made += [adds(f"{steady} added p50", steady_p50), adds(f"{steady} added p99", steady_p99, 5)]
    failed = {name: _failed(rounds, name) for name in ("direct", "litellm")}
    return [*made, Figure("failed requests", _failed(rounds, "plaudit"), 0, note=_beside(failed))]


def _failed(rounds: Sequence[Round], target: str) -> float:
    counts = [result.failed for each in rounds if target in each for result in each[target].results]
    return sum(counts) if counts else math.nan


def _beside(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {number(value)}" for name, value in values.items() if not math.isnan(value))
