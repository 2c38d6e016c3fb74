"""``/readyz`` while the log cannot be written: the gateway answers, and says what an operator must see to."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from types import SimpleNamespace

from chat_upstream import ChatUpstream
from gateway_parts import Gateway, serving_app, until

from feedback.sqlite_log import SqliteLog
from ops.settings import load_settings
from serving.app import create_app
from serving.log_check import LogCheck


class Filling(SqliteLog):
    """The log of a disk that is full while ``full``: SQLite itself refuses every transaction."""

    full = False
    checks = 0

    def transact(self, work):
        def on_full_disk(connection):
            raise sqlite3.OperationalError("database or disk is full")

        return super().transact(on_full_disk if self.full else work)

    def check_writable(self, timeout=10.0):
        self.checks += 1
        super().check_writable(timeout)


def test_a_full_disk_is_a_warning_that_goes_by_itself_while_chat_goes_on(tmp_path: Path, upstream: ChatUpstream):
    settings = load_settings(data_dir=tmp_path, engine_urls=(upstream.url,), secret="a secret for tests, long enough")
    log = Filling(settings.log_path)
    with serving_app(create_app(settings, log=log)) as url:
        served = Gateway(settings, log, url, [])
        until(lambda: served.http.get("/readyz").json() == {"ready": True, "reasons": []}, 20)
        log.full = True
        until(lambda: "warnings" in served.http.get("/readyz").json())
        told = served.http.get("/readyz")
        assert (told.status_code, told.json()["ready"], told.json()["reasons"]) == (200, True, [])
        (warning,) = told.json()["warnings"]
        assert warning == (
            "the log could not be written: database or disk is full: answers go on and wait in memory for it, feedback is refused"
        )
        assert served.chat()["choices"]
        log.full = False
        until(lambda: served.http.get("/readyz").json() == {"ready": True, "reasons": []})
        served.close()
    log.close()


async def test_however_often_it_is_asked_it_writes_once_a_second(tmp_path: Path):
    log, now = Filling(tmp_path / "log.db"), [0.0]
    check = LogCheck(log, lambda: now[0])
    for _ in range(10):
        assert await check.trouble() == []
    assert log.checks == 1
    now[0] = 1.0
    assert await check.trouble() == []
    assert log.checks == 2
    log.close()


async def test_a_log_that_hangs_is_told_of_and_asked_no_second_time(tmp_path: Path):
    log, go_on = Filling(tmp_path / "log.db"), threading.Event()
    stuck = log.transact(lambda connection: go_on.wait(10))
    check = LogCheck(log, lambda: 0.0, patience_s=0.01)
    for _ in range(3):
        (told,) = await check.trouble()
        assert told.startswith("the log is being written too slowly")
    assert log.checks == 1
    go_on.set()
    assert stuck.result(10)
    patient = LogCheck(log, lambda: 0.0)
    assert await patient.trouble() == []
    log.close()


class Outboxed(SqliteLog):
    """An outbox that another process forwards, as far as this one can tell."""

    forwarder = SimpleNamespace(failing=False, oldest_s=0.0)


async def test_an_outbox_that_another_process_forwards_is_told_of_once_its_events_are_old(tmp_path: Path):
    log = Outboxed(tmp_path / "log.db")
    check = LogCheck(log)
    for oldest_s, failing, told in (
        (0.0, False, None),
        (9.9, False, None),
        (10.0, False, "Kafka is behind: events wait in the outbox, the oldest for 10 s"),
        (0.5, True, "Kafka does not answer: events wait in the outbox, the oldest for 0 s"),
        (0.0, True, None),
    ):
        log.forwarder = SimpleNamespace(failing=failing, oldest_s=oldest_s)
        assert [warning.partition(", and")[0] for warning in await check.trouble()] == ([told] if told else [])
    log.close()
