"""The demo's live table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ops.crowd import Tally
from ops.demo.facts import Facts


@contextmanager
def live_board(render: Callable[[], Group]) -> Iterator[Live]:
    """A table drawn on a terminal at each ``refresh()``; elsewhere only its last state is printed. Who refreshes it draws it, in
    no thread of its own: `render` may read what that one changes.
    """
    console = Console()
    try:
        with Live(get_renderable=render, console=console, auto_refresh=False) as live:
            yield live
    finally:
        if not console.is_terminal:
            print(flush=True)  # which rich leaves out there


def board(stage: str, seconds: float, tally: Tally, facts: Facts, evidence: dict[str, Any]) -> Group:
    """Votes, reward accuracy, adapters and their state, live win rate with its interval."""
    head = Text(f"{stage}   {int(seconds) // 60}:{int(seconds) % 60:02d}", style="bold")
    counts = Text(
        f"requests {tally.requests} (failed {tally.failed_requests})   votes {tally.votes}   "
        f"joined {facts.joined}   {_reward(facts)}"
    )
    table = Table(expand=True)
    for column in ("adapter", "parent", "state", "gates", "answers served", "publish → first token"):
        table.add_column(column)
    swaps, states = facts.swap_seconds(), facts.states()
    table.add_row("base (v0)", "", "CHAMPION" if not _champion(facts) else "", "", str(facts.served["base"]), "")
    for m in facts.manifests():
        gates = f"{sum(g.passed for g in m.gates)}/{len(m.gates)}"
        swap = f"{swaps[m.id]:.1f} s" if m.id in swaps else ""
        table.add_row(m.id, m.parent, states[m.id], gates, str(facts.served[m.id]), swap)
    return Group(head, counts, table, Text(_live_win_rate(evidence)))


def _champion(facts: Facts) -> str | None:
    rollout = facts.rollout
    return rollout.champion if rollout is not None and rollout.champion != "base" else None


def _reward(facts: Facts) -> str:
    cycles = facts.cycles()
    if not cycles or not cycles[-1].get("reward_model"):
        return "reward model: not yet"
    figures = cycles[-1]["reward_model"]
    return f"reward accuracy {figures['accuracy']:.2f} (majority {figures['majority']:.2f}, {figures['votes']} votes)"


def _live_win_rate(evidence: dict[str, Any]) -> str:
    rate = evidence.get("win_rate")
    if not rate or not rate.get("n"):
        return "live win rate of the challenger: no duel yet"
    return f"live win rate of the challenger: {rate['value']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}] from {rate['n']} duels"
