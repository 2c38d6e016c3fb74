"""What the page says of demos: the whole loop, serving included, by its reports (`ops.demo.report`). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TITLE = "The whole loop, serving included (`plaudit demo`)"

HEAD = [
    "model",
    "seed",
    "win rate [95 %]",
    "votes",
    "requests",
    "failed",
    "minutes",
    "anchor perplexity over the base's",
    "answers",
]


def is_demo(report: Mapping[str, Any]) -> bool:
    return {"champion_final", "adapters", "win_rate"} <= set(report)


def rows_of(reports: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The cells of each, as in `HEAD`; of the champion at the end."""
    return [_row(report) for report in reports]


def _row(report: Mapping[str, Any]) -> list[str]:
    rate = report["win_rate"]
    gates = {
        gate["name"]: gate for made in report["adapters"] if made["id"] == report["champion_final"] for gate in made["gates"]
    }
    anchor = gates.get("anchor_perplexity", {})
    shares = {name: each for name, each in report.items() if isinstance(each, dict) and set(each) == {"initial", "final"}}
    return [
        report["model"],
        str(report["seed"]),
        f"{rate['value']:.3f} [{rate['low']:.3f}, {rate['high']:.3f}]",
        str(report["votes"]),
        str(report["requests"]),
        str(report["failed_requests"]),
        f"{report['seconds'] / 60:.1f}",
        f"{anchor['value']:.3f} (gate {anchor['threshold']:.2f})" if anchor.get("value") is not None else "-",
        ", ".join(f"{name} {each['initial']:.3g} → {each['final']:.3g}" for name, each in shares.items()),
    ]
