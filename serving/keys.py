"""API keys and projects, in SQL: a key is kept as its SHA-256 and shown once, when it is made."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from sqlalchemy import Column, Float, MetaData, String, Table, create_engine, event, exists, insert, select, update
from sqlalchemy.exc import IntegrityError

from feedback.ids import new_id

Role = Literal["app", "annotator", "operator", "visitor"]
"""``app``: an application's backend. ``visitor``: a browser with the chat page's session, never a key."""

KEY_ROLES = tuple(role for role in get_args(Role) if role != "visitor")
FIRST_KEY = "key_first"
"""Id of the key made at first start: two processes that start at once cannot both make it."""

_PREFIX = "sk-plaudit-"
_REMEMBERED_S = 1.0
"""How long a key is believed without a look at the table: by then a revocation by another process has its effect."""

_MOST_REMEMBERED = 1024

_metadata = MetaData()
_projects = Table("projects", _metadata, Column("id", String, primary_key=True), Column("created", Float, nullable=False))
_keys = Table(
    "keys",
    _metadata,
    Column("id", String, primary_key=True),
    Column("digest", String, nullable=False, unique=True),
    Column("project", String, nullable=False, index=True),
    Column("role", String, nullable=False),
    Column("name", String, nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float),
    Column("revoked", Float),
)


@dataclass(frozen=True)
class Caller:
    """Who makes a request, and for which project."""

    project: str
    role: Role
    key_id: str | None = None
    visitor: str | None = None
    """A browser's own random id, from its session."""


@dataclass(frozen=True)
class KeyInfo:
    """A key without its secret. Times are Unix seconds; ``expires`` None: never."""

    id: str
    project: str
    role: Role
    name: str
    created: float
    expires: float | None
    revoked: float | None


class KeyStore:
    """Any number of processes may use one file at once."""

    def __init__(self, path: Path | str, clock: Callable[[], float] = time.time) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch(mode=0o600)
        self._clock = clock
        self._engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 10.0})
        event.listen(self._engine, "connect", _configure)
        _metadata.create_all(self._engine)
        self._remembered: dict[str, tuple[float, KeyInfo]] = {}

    def ensure_project(self, project: str) -> None:
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(_projects).values(id=project, created=self._clock()))
        except IntegrityError:
            return  # it is there

    def projects(self) -> dict[str, float]:
        """When each project was made, oldest first."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(_projects).order_by(_projects.c.created, _projects.c.id)).all()
        return {row.id: row.created for row in rows}

    def create(self, project: str, role: Role, name: str = "", ttl: float | None = None) -> tuple[str, KeyInfo]:
        """A new key: its secret, which is kept nowhere, and what is. ``ttl`` in seconds; None: it never expires.

        Raises LookupError for an unknown project, ValueError for an unknown role.
        """
        return self._insert(new_id("key_"), project, role, name, ttl)

    def ensure_first_key(self) -> str | None:
        """The secret of a first ``app`` key for the oldest project; None when there are keys already."""
        with self._engine.connect() as connection:
            if connection.execute(select(exists().select_from(_keys))).scalar():
                return None
        try:
            return self._insert(FIRST_KEY, next(iter(self.projects())), "app", "first", None)[0]
        except IntegrityError:
            return None

    def list(self, project: str) -> list[KeyInfo]:
        """A project's keys, oldest first, revoked ones included."""
        query = select(_keys).where(_keys.c.project == project).order_by(_keys.c.created, _keys.c.id)
        with self._engine.connect() as connection:
            return [_info(row) for row in connection.execute(query)]

    def revoke(self, id: str) -> None:
        """Refuse a key from now on. Raises LookupError when there is none; revoking twice changes nothing."""
        with self._engine.begin() as connection:
            if connection.execute(select(_keys.c.id).where(_keys.c.id == id)).first() is None:
                raise LookupError(f"key {id!r}: there is none")
            query = update(_keys).where(_keys.c.id == id, _keys.c.revoked.is_(None))
            connection.execute(query.values(revoked=self._clock()))
        self._remembered.clear()

    def check(self, secret: str) -> Caller | None:
        """Who holds this secret; None when it is unknown, expired or revoked."""
        digest = _digest(secret)
        now = self._clock()
        until, info = self._remembered.get(digest, (0.0, None))
        if info is None or now >= until:
            info = self._find(digest)
            if info is None:
                return None
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[digest] = (now + _REMEMBERED_S, info)
        if info.revoked is not None or (info.expires is not None and now >= info.expires):
            return None
        return Caller(project=info.project, role=info.role, key_id=info.id)

    def close(self) -> None:
        self._engine.dispose()

    def _insert(self, id: str, project: str, role: Role, name: str, ttl: float | None) -> tuple[str, KeyInfo]:
        if role not in KEY_ROLES:
            raise ValueError(f"role={role!r}: use one of {', '.join(KEY_ROLES)}")
        secret = _PREFIX + secrets.token_urlsafe(32)
        now = self._clock()
        info = KeyInfo(id, project, role, name, now, None if ttl is None else now + ttl, None)
        with self._engine.begin() as connection:
            if connection.execute(select(_projects.c.id).where(_projects.c.id == project)).first() is None:
                raise LookupError(f"there is no project {project!r}")
            connection.execute(insert(_keys).values(digest=_digest(secret), **vars(info)))
        return secret, info

    def _find(self, digest: str) -> KeyInfo | None:
        with self._engine.connect() as connection:
            row = connection.execute(select(_keys).where(_keys.c.digest == digest)).first()
        return None if row is None else _info(row)


def _configure(connection: object, record: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _digest(secret: str) -> str:
    """A key has 256 random bits: a plain hash keeps it, and finding it by its hash gives nothing away by timing."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _info(row: object) -> KeyInfo:
    return KeyInfo(**{name: getattr(row, name) for name in KeyInfo.__dataclass_fields__})
