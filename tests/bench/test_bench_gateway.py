"""The gateway's bench measures what it says: wrong answers are counted, medians are medians, the log is looked at."""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from feedback.events import CompletionCreated, CompletionText, Event, Exposure, Message
from feedback.sqlite_log import SqliteLog
from ops.bench import gateway, litellm
from ops.bench.children import child
from ops.bench.client import dechunked
from ops.bench.load import Load, Quantiles, Result, fault_of, quantile
from ops.bench.load import run as send
from ops.bench.rounds import Measured, Round, figures
from ops.bench.stub import ANSWER, CHUNKS, WORDS
from ops.bench.table import Figure, print_figures, show
from ops.bench.targets import cores, stub
from ops.errors import CommandError

WHOLE = {"model": "base", "text": ANSWER, "chunks": CHUNKS}


def quiet(what: str, share: float) -> None:
    """Nobody watches the progress."""


# the load generator and the stub


@pytest.mark.parametrize(
    ("fault", "why"),
    [("drop", "31 content chunks, not 32"), ("fail", "status 500"), ("cut", "the connection broke")],
)
def test_every_tenth_answer_that_is_wrong_is_counted_as_failed_with_its_reason(tmp_path, fault, why):
    with stub(tmp_path, None, "--fault", fault, "--every", "10") as upstream:
        result = asyncio.run(send(Load(upstream.url, requests=40, concurrency=4, **WHOLE)))

    assert (result.requests, result.answered, result.failed) == (40, 36, 4)
    assert result.failures == {why: 4}


def test_a_failure_during_the_warm_up_is_counted_too(tmp_path):
    with stub(tmp_path, None, "--fault", "drop", "--every", "1") as upstream:
        result = asyncio.run(send(Load(upstream.url, requests=3, warmup=2, **WHOLE)))

    assert (result.requests, result.answered, result.failed) == (5, 0, 5)


@pytest.mark.parametrize("flags", [(), ("--at-once",)])
def test_whole_answers_are_counted_and_timed(tmp_path, flags):
    with stub(tmp_path, None, *flags) as upstream:
        result = asyncio.run(send(Load(upstream.url, requests=40, concurrency=4, warmup=5, tokens=CHUNKS, **WHOLE)))

    assert (result.requests, result.answered, result.failed) == (45, 45, 0)
    assert 0 < result.first_ms.p50 <= result.total_ms.p50 <= result.total_ms.p99
    assert result.requests_per_s == pytest.approx(40 / result.seconds)
    assert result.tokens_per_s == pytest.approx(40 * CHUNKS / result.seconds)


def test_a_load_ends_when_its_seconds_are_over(tmp_path):
    with stub(tmp_path, None) as upstream:
        result = asyncio.run(send(Load(upstream.url, requests=10_000_000, concurrency=2, seconds=0.2, **WHOLE)))

    assert 0 < result.answered < 10_000_000
    assert result.failed == 0


@asynccontextmanager
async def silent_server() -> AsyncIterator[tuple[str, list[bytes]]]:
    """Its address, and the requests it has read; it answers none."""
    read: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        read.append(await reader.readuntil(b"\r\n\r\n"))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", read


async def test_an_open_loop_does_not_wait_for_answers_and_each_has_its_deadline():
    async with silent_server() as (url, read):
        result = await send(Load(url, requests=20, rate=400, concurrency=2, deadline_s=0.3, **WHOLE))

    assert len(read) == 20
    assert result.failures == {"no answer within the deadline": 20}


async def test_a_closed_loop_has_no_more_requests_running_than_it_has_streams():
    async with silent_server() as (url, read):
        result = await send(Load(url, requests=3, concurrency=2, deadline_s=0.3, **WHOLE))

    assert len(read) == 3
    assert result.seconds > 0.6  # the third had to wait for the deadline of the first
    assert result.failed == 3


async def test_a_load_ends_when_the_upstream_is_gone_for_good():
    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        server.close()
        writer.close()

    server = await asyncio.start_server(die, "127.0.0.1", 0)
    async with server, asyncio.timeout(10):
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        result = await send(Load(url, requests=100, **WHOLE))

    assert result.answered == 0
    assert result.failures["the connection broke"] == 1
    assert result.failed == 2  # and one that found nobody to connect to


async def test_an_upstream_that_is_not_there_is_an_error_not_a_figure():
    with pytest.raises(OSError, match="Connect call failed"):
        await send(Load("http://127.0.0.1:9", requests=3, **WHOLE))


def sse(*contents: str, end: str = "data: [DONE]\n\n") -> bytes:
    return "".join(f'data: {{"choices":[{{"delta":{{"content":"{text}"}}}}]}}\n\n' for text in contents).encode() + end.encode()


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (sse("", *WORDS), None),
        (sse(*WORDS, end=""), "no [DONE] at the end"),
        (sse(*WORDS[:-1]), "31 content chunks, not 32"),
        (sse(*WORDS[:-1], " other"), "another text"),
        (sse(*WORDS, end='data: {"error":{}}\n\ndata: [DONE]\n\n'), "an error in mid-stream"),
    ],
)
def test_an_answer_is_good_only_with_all_its_chunks_its_text_and_its_end(body, fault):
    assert fault_of(Load("", requests=1, **WHOLE), body) == fault


def test_chunks_are_joined_and_known_to_be_unfinished_until_the_last():
    raw = b'5\r\ndata:\r\n3;x="y"\r\n 10\r\n0\r\n\r\n'

    assert dechunked(raw) == b"data: 10"
    assert dechunked(raw[:-4]) is None
    assert dechunked(b"5\r\nda") is None


def test_a_quantile_lies_between_its_neighbours():
    assert quantile([1.0, 2.0, 3.0, 5.0], 0.5) == 2.5
    assert quantile([1.0, 2.0, 3.0, 5.0], 1.0) == 5.0
    assert math.isnan(quantile([], 0.5))


# figures


def result(p50: float = 1.0, rate: float = 100.0, failed: int = 0) -> Result:
    times = Quantiles(p50, 2 * p50, 3 * p50)
    return Result(10, failed, 10 - failed, 1.0, rate, 0.0, Quantiles(p50 / 2, p50, p50), times, {})


def measured(p50: float, rate: float, failed: int = 0) -> Measured:
    return Measured(result(p50, failed=failed), result(rate=rate), result(p50), cpu_ms=p50)


ROUNDS: list[Round] = [
    {"direct": measured(1.0, 4000), "plaudit": measured(1.5, 2000), "litellm": measured(21.0, 50)},
    {"direct": measured(2.0, 4000), "plaudit": measured(2.4, 1000), "litellm": measured(22.0, 40)},
    {"direct": measured(1.0, 4000), "plaudit": measured(1.3, 3000, failed=2), "litellm": measured(21.0, 30)},
]


def test_figures_are_medians_over_rounds_and_differences_are_taken_within_a_round():
    made = {figure.name: figure for figure in figures(ROUNDS, 32, 500, "")}

    assert made["one stream: added p50, ms"].value == pytest.approx(0.4)  # of 0.5, 0.4, 0.3
    assert made["one stream: added p50, ms"].met
    assert made["one stream: added p50, ms"].note == "litellm 20"
    assert made["32 streams: answers a second"].value == 2000
    assert made["32 streams: times LiteLLM's rate"].value == 40  # of 40, 25, 100
    assert made["500 requests/s: added p99, ms"].value == pytest.approx(1.2)  # of 1.5, 1.2, 0.9
    assert made["failed requests"].value == 2
    assert made["failed requests"].met is False


def test_without_litellm_its_ratio_is_not_measured_and_says_why():
    rounds: list[Round] = [{name: each[name] for name in ("direct", "plaudit")} for each in ROUNDS]
    (ratio,) = (figure for figure in figures(rounds, 32, 0, litellm.NOT_INSTALLED) if "LiteLLM" in figure.name)

    assert math.isnan(ratio.value)
    assert ratio.met is None
    assert ratio.as_json()["value"] is None
    assert ratio.note == "not installed: make bench installs it"


@pytest.mark.parametrize(
    ("figure", "met"),
    [
        (Figure("", 0.6, 0.6), True),
        (Figure("", 0.61, 0.6), False),
        (Figure("", 1500, 1500, "least"), True),
        (Figure("", 1499, 1500, "least"), False),
        (Figure("", 1.0), None),
    ],
)
def test_an_aim_is_the_most_or_the_least_a_figure_may_be(figure, met):
    assert figure.met is met


def test_a_report_is_written_with_null_for_what_was_not_measured(tmp_path, capsys):
    report = {"figures": [Figure("speed", math.nan, 0.6).as_json()], "rounds": [{"direct": {"p50": math.nan, "p99": 1.5}}]}
    show("Title", report, tmp_path / "deep" / "report.json")

    written = json.loads((tmp_path / "deep" / "report.json").read_text())
    assert written["figures"] == [{"name": "speed", "value": None, "aim": 0.6, "side": "most", "note": "", "met": None}]
    assert written["rounds"] == [{"direct": {"p50": None, "p99": 1.5}}]
    assert "speed" in capsys.readouterr().out


def test_a_missed_aim_is_said_plainly(capsys):
    print_figures("Title", [Figure("speed", 1.25, 0.6), Figure("rate", 2000, 1500, "least")], ["a note"])

    printed = capsys.readouterr().out
    assert "aim missed: speed: 1.25, aim ≤ 0.60" in printed
    assert "aim missed: rate" not in printed
    assert printed.endswith("a note\n")


@pytest.mark.parametrize(("tenth", "end", "said"), [(100.0, 105.0, "flat"), (100.0, 105.1, "not flat")])
def test_memory_is_flat_when_it_grows_by_at_most_five_megabytes(tenth, end, said):
    assert gateway.flatness(tenth, end) == said


def test_load_and_gateway_have_half_of_the_cpus_each_where_there_are_two():
    halves = cores(True, frozenset({0, 2, 3, 5}))

    assert (halves.load, halves.gateway) == (frozenset({0, 2}), frozenset({3, 5}))
    assert cores(True, frozenset({0})).load is None
    assert cores(False, frozenset({0, 1})).gateway is None


# the log


def completion(number: int, outcome: str) -> Event:
    id = f"chatcmpl-{number}"
    exposure = Exposure(completion_id=id, adapter="base", arm="champion", assigned="champion", propensity=1.0)
    data = CompletionCreated.model_validate(
        {
            "completion_id": id,
            "position": 0,
            "conversation": "conv",
            "user": "user",
            "text": CompletionText(messages=(Message(role="user", content="Hi"),), answer="Hello"),
            "exposure": exposure,
            "sampling": {},
            "outcome": outcome,
            "latency_ms": 1.0,
            "prompt_hash": "p",
            "answer_hash": "a",
            "prompt_tokens": 1,
            "completion_tokens": 1,
        }
    )
    return Event(id=id, time=1.0, project="default", key="conv", data=data)


def test_only_events_of_good_answers_are_counted_in_the_log(tmp_path):
    log = SqliteLog(tmp_path / "log.db")
    log.append([completion(1, "ok"), completion(2, "error"), completion(3, "ok")])
    log.close()

    assert gateway.completions_in(tmp_path / "log.db") == 2


def test_an_answer_without_its_event_misses_the_aim():
    assert gateway.log_figure({"answered": 7, "events": 6}).met is False
    assert gateway.log_figure({"answered": 7, "events": 7}).met is True


# the bench as a whole


@pytest.fixture
def fake_litellm(tmp_path) -> Path:
    """A program that takes LiteLLM's flags and its configuration, and answers as the stub does."""
    program = tmp_path / "bin" / "litellm"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\n"
        + textwrap.dedent(
            """
            import json, os, sys
            flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
            (model,) = json.load(open(flags["--config"]))["model_list"]
            assert model["model_name"] == "base" and model["litellm_params"]["api_base"].startswith("http://127.0.0.1:")
            os.execv(sys.executable, [sys.executable, "-m", "ops.bench.stub", "--port", flags["--port"]])
            """
        )
    )
    program.chmod(0o755)
    return program


def family() -> set[psutil.Process]:
    """All processes that this one has started, by whatever detour."""
    return set(psutil.Process().children(recursive=True))


def test_a_run_measures_all_three_counts_the_log_and_leaves_nothing_behind(tmp_path, fake_litellm):
    options = gateway.Options(rounds=1, requests=40, concurrency=4, rate=100, soak=50, litellm=str(fake_litellm), steady_s=0.2)

    before = family()
    report = json.loads(json.dumps(gateway.run(options, tmp_path / "bench", quiet)))

    values = {figure["name"]: figure["value"] for figure in report["figures"]}
    one_round = (8 + 5) + (4 + 40) + 20
    assert report["log"] == {"answered": one_round + 50, "events": one_round + 50}
    assert values["failed requests"] == values["answers without their event in the log"] == 0
    assert values["one stream: added p50, ms"] > 0
    assert values["4 streams: answers a second"] > 0
    assert values["4 streams: times LiteLLM's rate"] > 0
    assert values["4 streams: CPU time an answer, ms"] > 0
    assert 20 < report["soak"]["end_mb"] <= report["soak"]["highest_mb"] < 1000
    assert [set(each) for each in report["rounds"]] == [{"direct", "plaudit", "litellm"}]
    assert report["machine"]["cpus"] == os.cpu_count()
    assert not list((tmp_path / "bench").iterdir())
    assert family() == before


def test_what_a_bench_started_is_stopped_with_its_children_when_it_fails(tmp_path):
    code = "import subprocess, time; subprocess.Popen(['sleep', '60']); print('up', flush=True); time.sleep(60)"

    def fail() -> None:
        with child([sys.executable, "-c", code], tmp_path / "child.log"):
            while "up" not in (tmp_path / "child.log").read_text():
                pass
            started.extend(family() - before)
            raise RuntimeError("in the midst of it")

    started: list[psutil.Process] = []
    before = family()
    with pytest.raises(RuntimeError, match="in the midst"):
        fail()

    assert len(started) == 2
    assert not [process for process in psutil.wait_procs(started, timeout=5)[1] if process.status() != psutil.STATUS_ZOMBIE]


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(CommandError, match="--litellm='no-such-program': there is no such program"):
        litellm.find("no-such-program")
    assert litellm.find("none") is None
