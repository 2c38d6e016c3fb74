"""The demo: start everything, let people talk and vote, watch the loop learn, and say what came of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.live import Live

from ops.cli import load
from ops.controller import Controller
from ops.crowd import Crowd
from ops.demo.board import board, live_board
from ops.demo.facts import Facts
from ops.demo.plan import Plan, demo_settings
from ops.demo.report import closing_line, write_report
from ops.domain.known import domain_of
from ops.domain.people import crowd as people_of
from ops.environment import environment_of
from ops.errors import CommandError
from ops.open_log import open_log_of
from ops.process import module
from ops.settings import Settings
from ops.up import readiness, running, stop_on_signals

_DECIDED = ("CHAMPION", "RETIRED", "ROLLED_BACK", "EXPIRED", "REFUSED", "REJECTED")
"""States of an adapter (`ops.lineage`) in which its rollout is over."""

_POLL_S = 0.5

_EVALUATION_EXTRA_S = 120.0
"""For what cannot be cut short: loading the model, the first questions."""


@dataclass
class Stages:
    """Seconds spent in each stage, in order; a stage entered again adds up."""

    seconds: dict[str, float] = field(default_factory=dict)
    current: str = "start"
    started: float = field(default_factory=time.monotonic)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun, self.current = time.monotonic(), name
        if not sys.stdout.isatty():  # where the board is not drawn
            print(f"{int(self.elapsed) // 60}:{int(self.elapsed) % 60:02d} {name}", flush=True)
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begun

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started


class Demo:
    """One run of the loop against processes that are already up."""

    def __init__(self, settings: Settings, plan: Plan, crowd: Crowd, facts: Facts, stages: Stages) -> None:
        self._settings, self._plan, self._crowd, self._facts, self._stages = settings, plan, crowd, facts, stages
        self._evidence: dict[str, Any] = {}

    async def run(self) -> None:
        """Votes, cycle, rollout; again while votes and time are left."""
        with live_board(self._render) as live:
            watcher = asyncio.create_task(self._watch(live))
            try:
                while self._another_cycle_fits():
                    await self._gather()
                    adapter = await self._await_cycle()
                    if adapter is not None:
                        await self._roll_out(adapter)
                        if not self._decided(adapter):
                            break  # it stays the challenger, and another would have to wait for it
            finally:
                watcher.cancel()
                await asyncio.gather(watcher, return_exceptions=True)
                self._facts.refresh()
                live.refresh()

    def _render(self) -> Any:
        return board(self._stages.current, self._stages.elapsed, self._crowd.tally, self._facts, self._evidence)

    async def _watch(self, live: Live) -> None:
        controller = Controller(self._facts.log, self._settings)
        while True:
            self._facts.refresh()
            self._evidence = controller.status()
            live.refresh()
            await asyncio.sleep(_POLL_S)

    def _another_cycle_fits(self) -> bool:
        if self._plan.promotions is not None and self._facts.promotions >= self._plan.promotions:
            return False
        votes_left = self._plan.votes - self._crowd.tally.votes
        votes_fit = self._votes_missing() + self._plan.rollout_votes // 2 <= votes_left
        return votes_fit and self._seconds_left() >= self._plan.cycle_seconds

    def _seconds_left(self) -> float:
        return max(0.0, self._plan.seconds - self._stages.elapsed)

    def _votes_missing(self) -> int:
        learned = sum(int(cycle["new_votes"]) for cycle in self._facts.cycles() if cycle["outcome"] not in ("diverged", "failed"))
        return max(0, self._plan.votes_per_cycle - (self._crowd.tally.votes - learned))

    async def _gather(self) -> None:
        with self._stages.stage("people vote"):
            await self._crowd.vote(self._votes_missing(), seconds=self._seconds_left())

    async def _await_cycle(self) -> str | None:
        """The adapter the next cycle publishes with every gate passed; None when it publishes none."""
        cycles = len(self._facts.cycles())
        with self._stages.stage("training"):
            next_chat = time.monotonic()
            deadline = next_chat + self._seconds_left()
            while len(self._facts.cycles()) == cycles:
                if time.monotonic() > deadline:
                    if cycles:
                        return None  # what the cycles before it reached is there to be told
                    raise CommandError(f"no training cycle ended within {self._plan.seconds:.0f} s; see {self._settings.run_dir}")
                if time.monotonic() >= next_chat:
                    await self._crowd.chat()
                    next_chat = time.monotonic() + self._plan.trickle_seconds
                await asyncio.sleep(_POLL_S)
        latest = self._facts.cycles()[-1]
        return str(latest["adapter"]) if latest["outcome"] == "published" else None

    async def _roll_out(self, adapter: str) -> None:
        """People vote in duels until the controller has decided, or the votes or the time for it are used up."""
        with self._stages.stage("rollout"):
            goal = min(self._plan.votes, self._crowd.tally.votes + self._plan.rollout_votes)
            deadline = time.monotonic() + min(self._plan.rollout_seconds, self._seconds_left())
            while self._crowd.tally.votes < goal and time.monotonic() < deadline and not self._decided(adapter):
                if self._challenger_live(adapter):
                    votes, seconds = min(8, goal - self._crowd.tally.votes), deadline - time.monotonic()
                    await self._crowd.vote(votes, concurrency=8, seconds=seconds)
                else:
                    await self._crowd.chat()
                self._facts.refresh()
            await self._settle(adapter)

    async def _settle(self, adapter: str) -> None:
        """Give the controller the time of a few looks at the last votes."""
        deadline = time.monotonic() + 5
        while not self._decided(adapter) and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
            self._facts.refresh()

    def _challenger_live(self, adapter: str) -> bool:
        rollout = self._facts.rollout
        return rollout is not None and rollout.challenger == adapter and adapter in self._facts.live

    def _decided(self, adapter: str) -> bool:
        return self._facts.states().get(adapter) in _DECIDED


def run_demo(data_dir: Path, models_dir: Path, port: int, plan: Plan, report_path: Path) -> dict[str, Any]:
    """Run it all; the report, which is also written to ``report_path``."""
    stop_on_signals()
    domain, settings, stages = domain_of(plan.model), demo_settings(data_dir, models_dir, port, plan), Stages()
    people = people_of(plan.people, seed=plan.seed, mode=plan.mode, domain=domain)
    with stages.stage("model"):
        _prepare(settings)
    started = time.monotonic()
    stages.started = started
    with stages.stage("start"):
        up = running(settings, print)
        supervisor = up.__enter__()
    try:
        key = load("serving.keys:KeyStore")(settings).create(settings.project, "app", "demo", None)[0]
        with open_log_of(settings) as log:
            facts = Facts(settings, log)
            url, most = f"http://{settings.host}:{port}/v1", settings.sampling.max_tokens
            crowd = Crowd(people, base_url=url, api_key=key, seed=plan.seed, max_tokens=most)
            asyncio.run(_talk(Demo(settings, plan, crowd, facts, stages), crowd))
            _check(readiness(settings), supervisor.restarts())
    finally:
        up.__exit__(None, None, None)
    with open_log_of(settings) as log:  # again, after everybody has stopped: what is on disk is what counts
        facts = Facts(settings, log)
        facts.refresh()
        with stages.stage("evaluation"):
            figures = _evaluate(settings, facts, plan)
        report = write_report(
            report_path, settings, plan, crowd.tally, facts, figures, stages.seconds, time.monotonic() - started
        )
    if report["champion_final"] == report["champion_initial"]:
        print(_why_not(facts))
    print(closing_line(report, domain.told(figures)))
    return report


def _why_not(facts: Facts) -> str:
    """Why nobody was promoted, as the last who said something put it."""
    changes, cycles = facts.rollout_changes(), facts.cycles()
    if changes and changes[-1].state != "REFUSED":
        return f"nothing was promoted: {changes[-1].challenger} is {changes[-1].state}, {changes[-1].reason}"
    return f"nothing was promoted: {cycles[-1]['outcome']}, {cycles[-1]['reason']}" if cycles else "nothing was promoted"


async def _talk(demo: Demo, crowd: Crowd) -> None:
    try:
        await demo.run()
    finally:
        await crowd.close()


def _prepare(settings: Settings) -> None:
    done = subprocess.run(module("ops.cli", "prepare"), env=environment_of(settings), stdin=subprocess.DEVNULL)
    if done.returncode:
        raise CommandError(f"model {settings.model!r} could not be prepared; the reason is above")


def _check(reasons: list[str], restarts: dict[str, int]) -> None:
    if reasons:
        print(f"warning: not ready at the end: {'; '.join(reasons)}", file=sys.stderr)
    for name, count in restarts.items():
        if count:
            print(f"warning: {name} was restarted {count} times", file=sys.stderr)


def _evaluate(settings: Settings, facts: Facts, plan: Plan) -> dict[str, Any]:
    champion = facts.rollout.champion if facts.rollout is not None else "base"
    command = module("ops.cli", "evaluate", "--champion", champion, "--initial", "base", "--json")
    limits = ["--prompts", str(plan.evaluation_prompts), "--seconds", str(plan.evaluation_seconds)]
    latest = plan.evaluation_seconds + _EVALUATION_EXTRA_S
    done = subprocess.run([*command, *limits], env=environment_of(settings), stdout=subprocess.PIPE, timeout=latest)
    if done.returncode:
        raise CommandError("the evaluation failed; the reason is above")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures
