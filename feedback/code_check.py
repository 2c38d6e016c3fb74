"""Python code in an answer: does it parse, and do the tests of its task pass? A verdict beside people's, never in their stead.

The tests run in a process of their own (`feedback.code_jail`), started with ``-I -S``, an empty environment and a fresh folder.
What the kernel keeps from it, without any privilege of ours (Landlock and seccomp, Linux 6.2 or newer, x86-64 and ARM64):
every file but its own folder and the standard library, changing files' modes and owners, sockets of every kind, new processes
and threads, other programs, signals to and looks into other processes. Limits: CPU time, wall time, address space, size of
files, output. Where a kernel cannot do this nothing is run: the outcome is ``not_isolated``.

What is not prevented: asking whether a file is there and how large it is; a fault in the kernel itself; filling its own folder
with many small files until its time is over; and an answer that looks through the frames of the interpreter that runs it for
the token with which a pass is told. So these tests measure code of models and people; they are no bank's vault.
"""

from __future__ import annotations

import ast
import json
import os
import re
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from feedback.events import Score

Outcome = Literal["passed", "failed", "timeout", "memory", "output", "crashed", "not_isolated"]

PARSES, PASSED = "code_parses", "tests_passed"
"""Metrics of the judgements that a verdict makes."""

NO_CODE = "no code in the answer"

RATER = "code-check"
"""Who judged: this file, not a person. Its judgements are of source ``imported``."""

JAIL = Path(__file__).with_name("code_jail.py")
_LONGEST = 200_000
_KEPT = 10_000
_FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^\n`]*)$")
_PYTHON = {"python", "python3", "py"}


@dataclass(frozen=True)
class Limits:
    """Of one run of tests. The address space is the interpreter's own 20 MiB or so and all it takes."""

    wall_s: float = 10.0
    cpu_s: int = 5
    memory_bytes: int = 512 * 2**20
    file_bytes: int = 2**20
    output_bytes: int = 2**20


@dataclass(frozen=True)
class TestRun:
    outcome: Outcome
    detail: str
    """Why, in one line; what the code wrote is in ``output``."""
    output: str
    """What the program wrote, its first `_KEPT` characters."""
    seconds: float

    __test__ = False  # for pytest: no test


@dataclass(frozen=True)
class CodeVerdict:
    code: str
    """All of an answer's Python, one block after the other."""
    error: str
    """Why it does not parse; empty if it does."""
    run: TestRun | None = None
    """None: the task has no tests, or the code does not parse."""

    @property
    def scores(self) -> tuple[Score, ...]:
        """As judgements of the answer. Of an answer without code only the tests can be said to fail."""
        parsed = (Score(metric=PARSES, value=float(not self.error), boolean=True),) if self.code else ()
        if self.run is None or self.run.outcome == "not_isolated":
            return parsed
        return (*parsed, Score(metric=PASSED, value=float(self.run.outcome == "passed"), boolean=True))


def check_answer(answer: str, tests: str | None = None, limits: Limits = Limits(), jail: Path = JAIL) -> CodeVerdict | None:
    """The verdict on an answer; None when it has no Python in it, and no tests ask for any."""
    blocks = python_blocks(answer)
    if not blocks:
        return CodeVerdict("", NO_CODE, TestRun("failed", NO_CODE, "", 0.0)) if tests else None
    code = "\n\n".join(blocks)
    error = parse_error(code)
    if error or not tests:
        return CodeVerdict(code, error)
    return CodeVerdict(code, error, run_tests(code, tests, limits, jail))


def python_blocks(answer: str) -> list[str]:
    """The fenced blocks that say they are Python; if none does, those that say nothing. A fence left open ends with the text."""
    blocks: list[tuple[str, str]] = []
    lines = iter(answer.splitlines())
    for line in lines:
        opened = _FENCE.match(line)
        if opened is None:
            continue
        closing = re.compile(rf"^[ \t]*{re.escape(opened['fence'][0])}{{{len(opened['fence'])},}}[ \t]*$")
        inside = []
        for text in lines:
            if closing.match(text):
                break
            inside.append(text)
        words = opened["info"].strip().lower().split()
        blocks.append((words[0] if words else "", textwrap.dedent("\n".join(inside))))
    for named in (_PYTHON, {""}):
        if found := [code for name, code in blocks if name in named and code.strip()]:
            return found
    return []


def parse_error(code: str) -> str:
    """What keeps the code from being Python, in one line; empty when nothing does."""
    if len(code) > _LONGEST:
        return f"{len(code)} characters are too many: at most {_LONGEST}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = f"line {error.lineno}: " if isinstance(error, SyntaxError) and error.lineno else ""
        return where + (error.msg if isinstance(error, SyntaxError) else str(error) or "too deeply nested")
    return ""


def run_tests(code: str, tests: str, limits: Limits = Limits(), jail: Path = JAIL) -> TestRun:
    """The code, then the tests in its namespace, then every function there that is called ``test_…``; see above."""
    token, started = secrets.token_hex(16), time.monotonic()
    job = {"code": code, "tests": tests, "token": token, "cpu_s": limits.cpu_s}
    job |= {"memory_bytes": limits.memory_bytes, "file_bytes": limits.file_bytes}
    with tempfile.TemporaryDirectory(prefix="code-check-") as folder, tempfile.TemporaryFile() as given:
        given.write(json.dumps(job).encode())
        given.seek(0)
        reading, told = os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-X", "utf8", str(jail), str(told)],
                cwd=folder,
                env={},
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(told,),
                start_new_session=True,
            )
        finally:
            os.close(told)
        try:
            output, stopped = _watch(process, started + limits.wall_s, limits.output_bytes)
            said = os.read(reading, 4096).decode(errors="replace")
        finally:
            os.close(reading)
    outcome, detail = (stopped, "") if stopped else _outcome(said, token, process.returncode)
    text = output[: 4 * _KEPT].decode(errors="replace")[:_KEPT]
    return TestRun(outcome, detail or _REASONS.get(outcome, ""), text, time.monotonic() - started)


_REASONS = {"timeout": "it took too long", "output": "it wrote too much", "crashed": "it ended without a word"}


def _watch(process: subprocess.Popen[bytes], deadline: float, most: int) -> tuple[bytes, Outcome | None]:
    """What the process wrote until it ended, and why it was ended if it was."""
    assert process.stdout is not None
    written, stopped, kept = 0, None, bytearray()
    with process.stdout, selectors.DefaultSelector() as waiting:
        waiting.register(process.stdout, selectors.EVENT_READ)
        while stopped is None:
            left = deadline - time.monotonic()
            if left <= 0:
                stopped = "timeout"
            elif waiting.select(left):
                part = os.read(process.stdout.fileno(), 65_536)
                if not part:
                    break
                written += len(part)
                kept += part[: max(0, 4 * _KEPT - len(kept))]
                stopped = "output" if written > most else None
        if stopped is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            stopped = "timeout" if process.poll() is None else None
        _end(process)
    return bytes(kept), stopped  # type: ignore[return-value]  # mypy takes the literals for str


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _outcome(said: str, token: str, returncode: int) -> tuple[Outcome, str]:
    mark, _, rest = said.strip().partition(" ")
    name, _, detail = rest.partition(" ")
    if mark == token and name in get_args(Outcome):
        return name, detail  # type: ignore[return-value]
    if returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return "timeout", "its CPU time was used up"
    return "crashed", f"ended by {signal.Signals(-returncode).name}" if returncode < 0 else ""
