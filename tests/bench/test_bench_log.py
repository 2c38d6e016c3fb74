"""The log's bench counts what was acknowledged and nothing else, and measures in both ways what it says."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ops.bench.load import Quantiles
from ops.bench.log import Direct, Options, direct_figures, lost_figure, measure_direct, run
from ops.bench.posts import Posts, send

Answer = Callable[[int, bytes], tuple[int, object]]
"""Of the number of the request, from 0, and its body: status and JSON."""


@contextmanager
def server(answer: Answer) -> Iterator[str]:
    numbers = iter(range(10**6))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status, said = answer(next(numbers), body)
            raw = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_address[1]}/v1/feedback"
    listening.shutdown()
    thread.join()
    listening.server_close()


def test_requests_that_are_not_acknowledged_are_counted_with_their_reason():
    with server(lambda n, _: (201 if n % 4 else 503, {})) as url:
        posted = asyncio.run(send(Posts(url, ("{}",), requests=36, connections=3, warmup=4)))
    assert (posted.requests, posted.items, posted.failed, posted.failures) == (40, 30, 10, {"status 503": 10})


def test_every_judgement_of_a_list_that_was_taken_counts():
    outcomes = {"data": [{"status": 201}, {"status": 201}, {"status": 409}]}
    with server(lambda n, _: (207, outcomes)) as url:
        posted = asyncio.run(send(Posts(url, ("[]",), requests=5, connections=2)))
    assert (posted.requests, posted.items, posted.failed) == (5, 10, 5)


def test_bodies_are_sent_in_turn():
    seen: list[bytes] = []

    def answer(_: int, body: bytes) -> tuple[int, object]:
        seen.append(body)
        return 201, {}

    with server(answer) as url:
        asyncio.run(send(Posts(url, ("a", "b", "c"), requests=7)))
    assert seen == [b"a", b"b", b"c", b"a", b"b", b"c", b"a"]


def test_with_a_rate_an_answer_is_timed_from_when_its_request_was_due():
    gate = threading.Event()

    def answer(number: int, _: bytes) -> tuple[int, object]:
        if number == 0:
            gate.wait(0.3)  # holds the only connection: all others are late
        return 201, {}

    with server(answer) as url:
        posted = asyncio.run(send(Posts(url, ("{}",), requests=10, connections=1, rate=1000)))
    assert posted.items == 10
    assert posted.latency_ms.p50 > 200
    assert posted.seconds < 5


def test_nothing_is_sent_after_the_time_is_up():
    with server(lambda n, _: (201, {})) as url:
        posted = asyncio.run(send(Posts(url, ("{}",), requests=10**6, connections=2, seconds=0.2)))
    assert 0 < posted.requests < 10**5


def test_the_log_and_bare_sqlite_write_as_many_rows(tmp_path):
    made = measure_direct(Options(singles=5, groups=3, group=4), tmp_path / "x")
    assert min(made.single.p50, made.bare_single.p50, made.grouped_per_s, made.bare_grouped_per_s) > 0
    for file in ("log.db", "bare.db"):
        with closing(sqlite3.connect(tmp_path / "x" / file)) as connection:
            assert connection.execute("SELECT COUNT(*) FROM events").fetchone() == (17,)


def test_figures_are_medians_with_bare_sqlite_beside():
    rounds = [Direct(Quantiles(p, p, p), 1 / p, Quantiles(1, 1, 1), 1, p * 100, 900) for p in (1.0, 4.0, 2.0)]
    p50, _, _, grouped = direct_figures(rounds, Options())
    assert (p50.value, p50.note) == (2.0, "bare SQLite 1")
    assert (grouped.value, grouped.note) == (200.0, "bare SQLite 900")


def test_an_acknowledged_event_that_the_log_lacks_misses_the_aim():
    assert (lost_figure(10, 9).value, lost_figure(10, 9).met) == (1, False)
    assert lost_figure(10, 12).met is True  # one may be kept and its answer lost


def test_the_whole_bench_finds_every_acknowledged_judgement_in_the_log(tmp_path):
    options = Options(rounds=1, singles=5, groups=2, group=10, requests=40, connections=4, rate=100, steady_s=0.2, pin=False)
    report = run(options, tmp_path / "bench", lambda what, share: None)
    figures = {figure["name"]: figure["value"] for figure in report["figures"]}
    assert figures["failed requests"] == 0
    assert figures["HTTP, one connection: p50, ms"] < 400, "an answer that is not in the log is waited for so long"
    # one connection: 4 and 20 before; many: 40 and 4; lists: (4 and 2) of 10; the rate: 20 and 20
    assert report["log"] == {"acknowledged": 24 + 44 + 60 + 40, "events": 168}
    assert list((tmp_path / "bench").iterdir()) == []
