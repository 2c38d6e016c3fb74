"""Tests are handed out file by file, in order, what shares something dear as one; the engine's once the starter is there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from units import ENGINE, UNITS, Scheduler, unit_of

ROOT = Path(__file__).parent.parent

STACK, LOOP = "tests/e2e/test_killed.py::test_k", "tests/e2e/test_loop.py::test_l"
A = [f"tests/test_a.py::test_{n}" for n in range(4)]
B = [f"tests/test_b.py::test_{n}" for n in range(4)]
C = [f"tests/test_c.py::test_{n}" for n in range(4)]


class Node:
    """A process that takes what it is given."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.given: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += indices

    def shutdown(self) -> None:
        self.shutting_down = True


class Run:
    def __init__(self, tests: list[str]) -> None:
        self.tests, self.ready = tests, False
        config: Any = SimpleNamespace(
            getvalue=lambda name: ["2*popen"], option=SimpleNamespace(loadscopereorder=False, debug=False)
        )
        log: Any = SimpleNamespace(loadscopesched=lambda *what: None)
        self.scheduler: Any = Scheduler(config, log, starter_is_ready=lambda: self.ready)
        self.nodes = [Node("gw0"), Node("gw1")]
        for node in self.nodes:
            self.scheduler.add_node(node)
            self.scheduler.add_node_collection(node, tests)
        self.scheduler.schedule()

    def given(self, node: int) -> list[str]:
        return [self.tests[index] for index in self.nodes[node].given]

    def done(self, node: int, tests: list[str]) -> None:
        for test in tests:
            self.scheduler.mark_test_complete(self.nodes[node], self.tests.index(test))


def test_a_file_is_a_unit_and_what_runs_the_engine_is_one():
    assert unit_of("tests/ops/test_cli.py::test_help[a::b]") == "tests/ops/test_cli.py"
    assert unit_of(STACK) == unit_of(LOOP) == unit_of("tests/contract/test_curl.py::test_c") == ENGINE
    assert unit_of("tests/contract/test_openapi.py::test_o") == "tests/contract/test_openapi.py"


@pytest.mark.parametrize("path", [path for paths in UNITS.values() for path in paths])
def test_what_a_unit_names_is_there(path: str):
    assert (ROOT / path).exists()


def test_without_the_starter_the_engines_unit_comes_when_it_was_collected():
    run = Run([*A, *B, *C, STACK, LOOP])
    assert (run.given(0), run.given(1)) == (A, B)
    run.done(0, A[:2])
    assert run.given(0) == [*A, *C]
    run.done(1, B[:2])
    assert run.given(1) == [*B, STACK, LOOP]


def test_once_the_starter_is_there_the_engines_unit_is_next_and_goes_to_one():
    run = Run([*A, *B, *C, STACK, LOOP])
    run.ready = True
    run.done(1, B[:2])
    assert run.given(1) == [*B, STACK, LOOP]
    run.done(0, A[:2])
    assert run.given(0) == [*A, *C]
