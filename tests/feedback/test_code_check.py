"""Code in answers: found, parsed, and run where it can do no harm."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from feedback.code_check import JAIL, Limits, check_answer, parse_error, python_blocks, run_tests

QUICK = Limits(wall_s=10, cpu_s=1, memory_bytes=256 * 2**20)


@pytest.mark.parametrize(
    ("answer", "blocks"),
    [
        ("Look:\n```python\nx = 1\n```\nand\n~~~py\ny = 2\n~~~", ["x = 1", "y = 2"]),
        ("```\nx = 1\n```", ["x = 1"]),
        ("```js\nlet x\n```\n```Python title=a.py\nx = 1\n```", ["x = 1"]),
        ("```bash\nls\n```", []),
        ("no code", []),
        ("```python\n```", []),
        ("````python\n```\nx\n```\n````", ["```\nx\n```"]),
        ("- list\n  ```python\n  if x:\n      y\n  ```", ["if x:\n    y"]),
        ("```python\nx = 1", ["x = 1"]),
    ],
)
def test_fenced_python_is_found(answer: str, blocks: list[str]):
    assert python_blocks(answer) == blocks


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("x = 1", ""),
        ("def f(:\n  pass", "line 1: "),
        ("x = 1\n  y = 2", "line 2: unexpected indent"),
        ("x = '\0'", "null"),
        ("(" * 300 + ")" * 300, "too many nested parentheses"),
        ("x" * 200_001, "200001 characters"),
    ],
)
def test_what_is_no_python_is_told_in_one_line(code: str, error: str):
    said = parse_error(code)
    assert error in said
    assert bool(said) == bool(error)
    assert "\n" not in said


def test_an_answer_without_code_fails_the_tests_that_ask_for_it():
    verdict = check_answer("no code", "assert True")
    assert verdict is not None
    assert verdict.run is not None
    assert (verdict.run.outcome, verdict.run.detail) == ("failed", "no code in the answer")
    assert [(s.metric, s.value, s.boolean) for s in verdict.scores] == [("tests_passed", 0.0, True)]


def test_an_answer_without_code_has_no_verdict_and_one_without_tests_is_only_parsed():
    assert check_answer("no code") is None
    parsed = check_answer("```python\nx = 1\n```")
    assert parsed is not None
    assert (parsed.run, [(s.metric, s.value, s.boolean) for s in parsed.scores]) == (None, [("code_parses", 1.0, True)])
    broken = check_answer("```python\nx = = 1\n```", "assert True")
    assert broken is not None
    assert (broken.run, [s.value for s in broken.scores]) == (None, [0.0])


@pytest.mark.parametrize(
    ("tests", "outcome", "detail"),
    [
        ("assert add(1, 2) == 3", "passed", ""),
        ("def test_it():\n    assert add(1, 2) == 3", "passed", ""),
        ("assert add(1, 2) == 4", "failed", "AssertionError"),
        ("def test_it():\n    assert add(1, 2) == 4, 'four'", "failed", "AssertionError: four"),
        ("subtract(1, 2)", "failed", "NameError"),
        ("assert (", "failed", "SyntaxError"),
    ],
)
def test_tests_that_pass_and_tests_that_fail(tests: str, outcome: str, detail: str):
    verdict = check_answer("```python\ndef add(a, b):\n    print('adding')\n    return a + b\n```", tests)
    assert verdict is not None
    assert verdict.run is not None
    assert (verdict.run.outcome, detail in verdict.run.detail) == (outcome, True), verdict.run
    assert [(score.metric, score.value) for score in verdict.scores] == [
        ("code_parses", 1.0),
        ("tests_passed", float(outcome == "passed")),
    ]
    if outcome == "passed":
        assert verdict.run.output == "adding\n"


FORGED = """
import contextlib, os
for number in range(3, 64):
    with contextlib.suppress(OSError):
        os.write(number, b"token passed\\n")
os._exit(0)
"""


@pytest.mark.parametrize(
    ("code", "outcome", "detail"),
    [
        ("while True: pass", "timeout", "CPU"),
        ("x = [0] * 10**9", "memory", "MemoryError"),
        ("x = bytearray(2**40)", "memory", ""),
        ("import os\nos._exit(0)", "crashed", ""),
        (FORGED, "crashed", ""),
        ("import sys\nsys.exit(0)", "failed", "ended itself"),
        ("raise KeyboardInterrupt", "failed", "KeyboardInterrupt"),
        ("import os\nos.abort()", "crashed", ""),
        ("print('passed', flush=True)\nassert False", "failed", "AssertionError"),
        ("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))", "failed", "not allowed"),
        ("open('big', 'wb').write(b'x' * 2**22)", "failed", "File too large"),
    ],
)
def test_what_runs_wild_is_stopped_and_does_not_pass(code: str, outcome: str, detail: str):
    run = run_tests(code, "", QUICK)
    assert run.outcome == outcome, run
    assert detail in run.detail
    assert run.seconds < 9


def test_what_sleeps_is_stopped_by_the_clock():
    run = run_tests("import time\ntime.sleep(60)", "", Limits(wall_s=0.7))
    assert (run.outcome, run.seconds < 5) == ("timeout", True)


def test_a_flood_of_output_is_cut_and_ends_the_run():
    run = run_tests("while True: print('x' * 1000)", "", Limits(output_bytes=200_000))
    assert (run.outcome, len(run.output)) == ("output", 10_000)


FORBIDDEN = {
    "fork": "import os\nwhile True: os.fork()",
    "threads": "import threading\nthreading.Thread(target=print).start()",
    "programs": "import subprocess\nsubprocess.run(['/bin/true'])",
    "exec": "import os\nos.execv('/bin/true', ['true'])",
    "sockets": "import socket\nsocket.socket()",
    "local sockets": "import socket\nsocket.socket(socket.AF_UNIX)",
    "signals": "import os\nos.kill(os.getppid(), 9)",
    "another numbering": (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nlibc.syscall(0x40000000 | 41, 2, 1, 0)\n"
        "raise OSError(os.strerror(ctypes.get_errno()))"
    ),
    "modes": "import os\nos.chmod('.', 0o777)",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_code_gets_no_processes_no_network_and_no_hold_on_others(what: str):
    run = run_tests(FORBIDDEN[what], "", QUICK)
    assert run.outcome == "failed", run
    assert any(word in run.detail for word in ("Operation not permitted", "Permission denied", "can't start new thread")), run


def test_code_cannot_reach_a_server_of_this_machine():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)"
        assert run_tests(code, "", QUICK).outcome == "failed"
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_code_reads_and_writes_nothing_but_its_own_folder_and_the_standard_library(tmp_path: Path):
    kept = tmp_path / "kept"
    kept.write_text("secret")
    for code in (
        f"print(open({str(kept)!r}).read())",
        f"open({str(kept)!r}, 'w').write('gone')",
        f"import os; os.remove({str(kept)!r})",
        f"import os; os.rename({str(kept)!r}, 'mine')",
        f"import os; os.truncate({str(kept)!r}, 0)",
        f"import os; os.listdir({str(tmp_path)!r})",
        f"import os; os.mkdir({str(tmp_path / 'new')!r})",
        f"import os; os.utime({str(kept)!r}, (0, 0))",
        "open('/proc/self/environ').read()",
        "open('/etc/passwd').read()",
    ):
        run = run_tests(code, "", QUICK)
        assert run.outcome == "failed", (code, run)
        assert "secret" not in run.output
    assert kept.read_text() == "secret"
    assert kept.stat().st_mtime > 1
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    own = "import os, decimal, unittest, sqlite3\nopen('a', 'w').write('x')\nos.rename('a', 'b')\nos.mkdir('c')\nos.rmdir('c')\n"
    assert run_tests(own, "assert open('b').read() == 'x'\nopen('b', 'w')\nos.remove('b')", QUICK).outcome == "passed"


def test_code_has_an_empty_environment_and_no_packages(monkeypatch):
    monkeypatch.setenv("PLAUDIT_SECRET", "do not tell")
    run = run_tests("import os, sys\nassert 'PLAUDIT_SECRET' not in os.environ", "import pydantic", QUICK)
    assert (run.outcome, "No module named 'pydantic'" in run.detail) == ("failed", True), run


@pytest.mark.parametrize(
    "broken",
    [("= 444, 445, 446", "= 9999, 445, 446"), ("OLDEST_LANDLOCK = 3", "OLDEST_LANDLOCK = 99"), ("platform.machine()", "'vax'")],
    ids=["no Landlock", "old Landlock", "another machine"],
)
def test_where_the_kernel_cannot_shut_code_in_it_is_not_run(tmp_path: Path, broken: tuple[str, str]):
    jail, source = tmp_path / "jail.py", JAIL.read_text()
    jail.write_text(source.replace(*broken))
    assert jail.read_text() != source
    verdict = check_answer("```python\nprint('ran')\n```", "assert True", jail=jail)
    assert verdict is not None
    assert verdict.run is not None
    assert (verdict.run.outcome, verdict.run.output) == ("not_isolated", "")
    assert [score.metric for score in verdict.scores] == ["code_parses"]
