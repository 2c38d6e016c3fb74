from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import event
from typer.testing import CliRunner

from ops.audit import AuditError, AuditLog
from ops.cli import app
from ops.database import database_of


@pytest.fixture
def log(tmp_path: Path):
    log = opened(tmp_path)
    yield log
    log.close()


def opened(folder: Path) -> AuditLog:
    return AuditLog(folder / "audit.jsonl", database_of(folder / "plaudit.db"))


@pytest.fixture
def path(tmp_path: Path, log: AuditLog) -> Path:
    """A log of four lines."""
    for number in range(1, 5):
        log.record("key_1", "key.create", f"key_{number}", now=float(number))
    return tmp_path / "audit.jsonl"


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_lines_say_who_did_what_to_what_and_when(log, path):
    assert log.verify() == 4
    last = log.tail(2)
    assert [(e.number, e.time, e.who, e.what, e.target) for e in last] == [
        (3, 3.0, "key_1", "key.create", "key_3"),
        (4, 4.0, "key_1", "key.create", "key_4"),
    ]
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_log_is_a_whole_one_and_a_lost_one_is_not(log, tmp_path):
    assert log.verify() == 0
    assert log.tail(5) == []
    log.record("a", "b", "c")
    (tmp_path / "audit.jsonl").unlink()
    with pytest.raises(AuditError, match="line 1 is missing: 1 were written, 0 are here"):
        log.verify()


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda a: [a[0], a[1].replace(b"key_2", b"key_9"), *a[2:]], 2),  # edited
        (lambda a: [a[0].replace(b"key_1", b"key_9", 1), *a[1:]], 1),
        (lambda a: [*a[:3], a[3].replace(b"key_4", b"key_9")], 4),
        (lambda a: [a[0], *a[2:]], 2),  # removed
        (lambda a: a[1:], 1),
        (lambda a: [a[0], a[2], a[1], a[3]], 2),  # in another order
        (lambda a: a[:3], 4),  # cut off at the end
        (lambda a: [], 1),
        (lambda a: [*a, a[3]], 5),  # added
        (lambda a: [a[0], b"not json\n", *a[2:]], 2),
    ],
)
def test_the_first_line_that_is_wrong_is_named(log, path, change, wrong):
    path.write_bytes(b"".join(change(lines(path))))
    with pytest.raises(AuditError, match=f"line {wrong} "):
        log.verify()


def test_a_chain_made_anew_does_not_fit_the_anchor(log, path, tmp_path):
    (tmp_path / "forger").mkdir()
    forger = opened(tmp_path / "forger")
    for number in range(1, 5):
        forger.record("key_1", "key.create", f"innocent_{number}")
    forger.close()
    path.write_bytes((tmp_path / "forger" / "audit.jsonl").read_bytes())
    with pytest.raises(AuditError, match="line 4 is not"):
        log.verify()


def test_a_line_added_by_hand_that_fits_the_chain_is_found(log, path):
    stolen = lines(path)
    path.write_bytes(b"".join(stolen[:3]))
    with pytest.raises(AuditError, match="line 4 is missing"):
        log.record("key_1", "key.create", "key_5")  # nothing is written onto a broken chain
    path.write_bytes(b"".join(stolen))
    entry = log.record("a", "b", "c")
    forged = entry.model_copy(update={"number": 6, "previous": hashlib.sha256(lines(path)[4][:-1]).hexdigest()})
    with path.open("ab") as file:
        file.write(forged.model_dump_json().encode() + b"\n")
    with pytest.raises(AuditError, match="line 6 was not written by Plaudit"):
        log.verify()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("call", [1, 2])
def test_killed_before_or_after_a_line_is_written_the_chain_goes_on(log, path, call):
    engine, calls = database_of(path.parent / "plaudit.db"), []

    @event.listens_for(engine, "before_cursor_execute")
    def die(connection, cursor, statement, *_):
        calls.extend([statement] if statement.startswith("UPDATE audit_anchor") else [])
        if len(calls) == call:
            raise Killed

    dying = AuditLog(path, engine)
    with pytest.raises(Killed):
        dying.record("a", "b", "c")
    dying.close()
    assert log.verify() == 3 + call
    log.record("a", "b", "d")
    assert log.verify() == 4 + call


def test_half_a_line_of_a_crash_is_cut_off(log, path):
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"number": 5, "ti')
    assert log.verify() == 4
    log.record("a", "b", "c")
    assert path.read_bytes().startswith(whole + b'{"number":5,')
    assert log.verify() == 5


def test_many_write_at_once_and_the_chain_holds(tmp_path):
    logs = [opened(tmp_path) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda log: [log.record("a", "b", str(n)) for n in range(5)], logs))
    assert logs[0].verify() == 20
    for log in logs:
        log.close()


def test_what_the_commands_do_is_recorded_and_verified(tmp_path):
    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments, "--data-dir", str(tmp_path)])
        assert done.exit_code == 0, done.output
        return done.stdout

    run("projects", "create", "shop")
    run("projects", "create", "shop")  # changes nothing
    run("projects", "origins", "shop", "--origin", "https://shop.example")
    key = json.loads(run("keys", "create", "--project", "shop", "--json"))["id"]
    run("keys", "revoke", key)
    run("keys", "rotate-receipts")
    run("keys", "rotate-text")
    told = [(e["what"], e["target"]) for e in json.loads(run("audit", "tail", "--json"))]
    assert told == [
        ("project.create", "shop"),
        ("project.origins", "shop"),
        ("key.create", key),
        ("key.revoke", key),
        ("receipts.rotate", "receipt_keys.json"),
        ("text-keys.rotate", "text_keys"),
    ]
    assert json.loads(run("audit", "verify", "--json")) == {"ok": True, "lines": 6}
    assert "key.revoke" in run("audit", "tail")
    path = tmp_path / "audit.jsonl"
    path.write_bytes(path.read_bytes().replace(b"key.revoke", b"key.rename"))
    done = CliRunner().invoke(app, ["audit", "verify", "--data-dir", str(tmp_path)])
    assert done.exit_code != 0
    assert "line 4 " in str(done.exception)
