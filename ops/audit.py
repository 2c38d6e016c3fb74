"""What operators did, as lines that each hold the one before: an edit, a removal or a change of order breaks the chain.

``audit.jsonl`` in the data folder has one JSON object a line: ``number`` (from 1), ``time`` (Unix seconds), ``who`` (an API key's
id, or ``os:`` and the system's user), ``what``, ``target``, ``previous`` (SHA-256 of the line before, in hexadecimal; zeros in
the first). Number and hash of the last line are kept in SQL too: lines cut off at the end are missed there. Never any text.

A line's hash is in SQL as the one to come before the line is written, and as the last one after it: so a crash leaves a line
too many that is known, or none. What was only half written was never confirmed to anybody, and is cut off.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, select, update
from sqlalchemy.exc import SQLAlchemyError

from ops.database import DatabaseUnavailable, create_tables, database_of
from ops.errors import UserError
from ops.settings import Settings
from ops.sql import insert_missing

_LOCK_TIMEOUT_S = 10.0
_NOTHING = "0" * 64

_metadata = MetaData()
anchors = Table(
    "audit_anchor",
    _metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("lines", Integer, nullable=False),
    Column("head", String, nullable=False),
    Column("next", String, nullable=False),
)


class AuditError(UserError):
    """The audit log cannot be written, or is not what was written; the message says which line."""


class Entry(BaseModel):
    """One line. ``target`` is what was done to: an id or a name, a user's hash."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    time: float
    who: str
    what: str
    target: str
    previous: str


@dataclass(frozen=True)
class _Head:
    """The end of a chain, and as an anchor the hash of the line that was to come next."""

    lines: int = 0
    hash: str = _NOTHING
    next: str = ""


class AuditLog:
    """The file at ``path``; the anchor is in ``engine``. Any number of processes may write at once."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self._path, self._engine = path, engine

    @classmethod
    def of(cls, settings: Settings) -> AuditLog:
        """The data folder's, anchored in the settings' database."""
        return cls(settings.data_dir / "audit.jsonl", database_of(settings))

    def record(self, who: str, what: str, target: str, now: float | None = None) -> Entry:
        """Append a line; it is on disk when this returns. Raises `AuditError`, and writes nothing onto a broken chain's end."""
        with self._locked():
            self._path.touch(mode=0o600)
            head = self._recovered()
            when = time.time() if now is None else now
            entry = Entry(number=head.lines + 1, time=when, who=who, what=what, target=target, previous=head.hash)
            line = entry.model_dump_json().encode()
            self._anchor(_Head(head.lines, head.hash, _hash(line)))
            with self._path.open("ab") as file:
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
            self._anchor(_Head(entry.number, _hash(line)))
            return entry

    def verify(self) -> int:
        """How many lines there are, all of them as they were written. Raises `AuditError` that names the first that is not."""
        with self._locked():
            lines = self._lines()
            head = _follow(lines)
            self._check(lines, head)
            return head.lines

    def tail(self, count: int) -> list[Entry]:
        """The last lines, oldest first, unverified. Raises `AuditError` for a line that cannot be read."""
        lines = self._lines()
        first = max(0, len(lines) - count)
        return [_entry(line, number) for number, line in enumerate(lines[first:], first + 1)]

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self._path}.lock", timeout=_LOCK_TIMEOUT_S):
                create_tables(self._engine, _metadata)
                yield
        except Timeout as error:
            raise AuditError(f"{self._path}: another process has held its lock for {_LOCK_TIMEOUT_S:.0f} s") from error
        except (OSError, SQLAlchemyError, DatabaseUnavailable) as error:
            raise AuditError(f"the audit log {self._path} cannot be written: {error}") from error

    def _lines(self) -> list[bytes]:
        """Whole lines only: a last one without its end was never confirmed."""
        try:
            return self._path.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []

    def _recovered(self) -> _Head:
        """The head to write after: that of the last line, once it is what the anchor, or the line after it, says."""
        data = self._path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self._path, whole)
        lines = data[:whole].split(b"\n")[:-1]
        head = _Head(len(lines), _hash(lines[-1])) if lines else _Head()
        self._check(lines, head)
        return head

    def _check(self, lines: list[bytes], head: _Head) -> None:
        """Raise `AuditError` unless the anchor is the head, or the line before it."""
        anchor = self._anchored()
        if (head.lines, head.hash) in ((anchor.lines, anchor.hash), (anchor.lines + 1, anchor.next)):
            return
        if len(lines) < anchor.lines:
            raise AuditError(
                f"{self._path}: line {len(lines) + 1} is missing: {anchor.lines} were written, {len(lines)} are here"
            )
        if len(lines) > anchor.lines:
            raise AuditError(f"{self._path}: line {anchor.lines + 1} was not written by Plaudit")
        raise AuditError(f"{self._path}: line {anchor.lines} is not what was written")

    def _anchored(self) -> _Head:
        with self._engine.connect() as connection:
            row = connection.execute(select(anchors)).first()
        return _Head() if row is None else _Head(row.lines, row.head, row.next)

    def _anchor(self, head: _Head) -> None:
        with self._engine.begin() as connection:
            insert_missing(connection, anchors, [{"log": 1, "lines": 0, "head": _NOTHING, "next": ""}])
            connection.execute(update(anchors).values(lines=head.lines, head=head.hash, next=head.next))


def audit(settings: Settings, what: str, target: str) -> None:
    """Record what the system's user who runs this did to what. Raises `AuditError`."""
    log = AuditLog.of(settings)
    try:
        log.record(f"os:{_user()}", what, target)
    finally:
        log.close()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return str(os.getuid())


def _follow(lines: list[bytes]) -> _Head:
    """The head of an unbroken chain. Raises `AuditError` that names the first line that is not what was written there."""
    head = _Head()
    for number, line in enumerate(lines, 1):
        entry = _entry(line, number)
        if entry.number != number:
            raise AuditError(f"audit log: line {number} is not what was written: it says that it is line {entry.number}")
        if entry.previous != head.hash:
            raise AuditError(
                f"audit log: line {max(1, number - 1)} is not what was written: line {number} does not follow from it"
            )
        head = _Head(number, _hash(line))
    return head


def _entry(line: bytes, number: int) -> Entry:
    try:
        fields: dict[str, Any] = json.loads(line)
        return Entry.model_validate(fields)
    except (ValueError, ValidationError) as error:
        raise AuditError(f"audit log: line {number} is not what was written: it cannot be read") from error


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
