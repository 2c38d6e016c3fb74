"""API keys and projects, in SQL: a key is kept as its SHA-256 and shown once, when it is made."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Engine, delete, exists, insert, select, update
from sqlalchemy.exc import IntegrityError

from feedback.ids import new_id
from ops.projects import check_origin, check_project_name
from ops.settings import Settings
from serving import tables

Role = Literal["app", "annotator", "operator", "visitor"]
"""``app``: an application's backend. ``visitor``: a browser with the chat page's session, never a key."""

KEY_ROLES = tuple(role for role in get_args(Role) if role != "visitor")
ALL_PROJECTS = "*"
"""In a key's place for a project: all there are, those made later too. For operators."""

FIRST_KEY = "key_first"
"""Id of the key made at first start: two processes that start at once cannot both make it."""

_PREFIX = "sk-plaudit-"
MOST_CONCURRENT = 1000
_MOST = 2**31 - 1


@dataclass(frozen=True)
class KeyLimits:
    """What a key's holder may use; None: as much as there is."""

    requests_per_min: int | None = None
    tokens_per_min: int | None = None
    concurrent: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            most = MOST_CONCURRENT if name == "concurrent" else _MOST
            if value is not None and not 1 <= value <= most:
                raise ValueError(f"{name}={value}: use 1 to {most}, or none for no limit")


UNLIMITED = KeyLimits()


@dataclass(frozen=True)
class Caller:
    """Who makes a request, and for which projects."""

    projects: tuple[str, ...]
    role: Role
    key_id: str | None = None
    visitor: str | None = None
    """A browser's own random id, from its session."""
    limits: KeyLimits = UNLIMITED
    everywhere: bool = False
    """The key is for all projects: ``projects`` are those there are now."""

    def may(self, project: str) -> bool:
        """Whether the project exists for this caller."""
        return project in self.projects


@dataclass(frozen=True)
class KeyInfo:
    """A key without its secret. Times are Unix seconds; ``expires`` None: never."""

    id: str
    projects: tuple[str, ...]
    """`ALL_PROJECTS` alone, or names."""
    role: Role
    name: str
    created: float
    expires: float | None = None
    revoked: float | None = None
    limits: KeyLimits = UNLIMITED

    @property
    def everywhere(self) -> bool:
        return self.projects == (ALL_PROJECTS,)

    def holds(self, now: float) -> bool:
        """Whether it is neither expired nor revoked."""
        return self.revoked is None and (self.expires is None or now < self.expires)


class KeyStore:
    """The keys and projects of a settings' database, or of a URL or an SQLite file; any number of processes may use it.

    It is opened when it is first asked something. Whatever is asked raises `DatabaseUnavailable` while it cannot be reached.
    """

    def __init__(self, where: Settings | Path | str, clock: Callable[[], float] = time.time) -> None:
        self._where, self._clock = where, clock
        self._opening = threading.Lock()
        self._opened: Engine | None = None
        self.changes = 0
        """How often something was written here that changes what is known of keys and projects."""

    @property
    def engine(self) -> Engine:
        """Of the same database, for what lies beside the keys. Raises `DatabaseUnavailable`."""
        return self._engine

    # projects

    def ensure_project(self, project: str) -> None:
        self.create_project(project)

    def create_project(self, project: str, origins: Iterable[str] = ()) -> bool:
        """Make a project, with the origins of its web pages; False, and nothing changed, when it is there already.

        Raises ValueError for what cannot be a project's name or an origin.
        """
        checked = _origins(origins)
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(tables.projects).values(id=check_project_name(project), created=self._clock()))
                _write_origins(connection, project, checked)
        except IntegrityError:
            return False
        self.changes += 1  # keys for all projects know one more
        return True

    def projects(self) -> dict[str, float]:
        """When each project was made, oldest first."""
        query = select(tables.projects).order_by(tables.projects.c.created, tables.projects.c.id)
        with self._engine.connect() as connection:
            return {row.id: row.created for row in connection.execute(query)}

    def origins(self) -> dict[str, tuple[str, ...]]:
        """The origins of the projects that name any, sorted."""
        named: defaultdict[str, list[str]] = defaultdict(list)
        query = select(tables.project_origins).order_by(tables.project_origins.c.origin)
        with self._engine.connect() as connection:
            for row in connection.execute(query):
                named[row.project].append(row.origin)
        return {project: tuple(origins) for project, origins in named.items()}

    def set_origins(self, project: str, origins: Iterable[str]) -> None:
        """Replace a project's origins. Raises LookupError for an unknown project, ValueError for what is no origin."""
        checked = _origins(origins)
        with self._engine.begin() as connection:
            _check_projects(connection, (project,))
            connection.execute(delete(tables.project_origins).where(tables.project_origins.c.project == project))
            _write_origins(connection, project, checked)
        self.changes += 1

    # keys

    def create(
        self,
        project: str,
        role: Role,
        name: str = "",
        ttl: float | None = None,
        *,
        also: Sequence[str] = (),
        limits: KeyLimits = UNLIMITED,
    ) -> tuple[str, KeyInfo]:
        """A new key: its secret, which is kept nowhere, and what is. ``ttl`` in seconds; None: it never expires.

        ``also`` are further projects; an operator's key may have `ALL_PROJECTS` for its project instead.
        Raises LookupError for an unknown project, ValueError for what does not fit.
        """
        projects = tuple(dict.fromkeys((project, *also)))
        return self._insert(new_id("key_"), projects, role, name, ttl, limits)

    def ensure_first_key(self) -> str | None:
        """The secret of a first ``app`` key for the oldest project; None when there are keys already."""
        with self._engine.connect() as connection:
            if connection.execute(select(exists().select_from(tables.keys))).scalar():
                return None
        try:
            return self._insert(FIRST_KEY, (next(iter(self.projects())),), "app", "first", None, UNLIMITED)[0]
        except IntegrityError:
            return None

    def list(self, project: str) -> list[KeyInfo]:
        """The keys that open a project, oldest first, revoked ones and those for all projects included."""
        return [info for info in self.all() if project in info.projects or info.everywhere]

    def all(self) -> list[KeyInfo]:
        """Every key, oldest first, revoked ones included."""
        query = select(tables.keys).order_by(tables.keys.c.created, tables.keys.c.id)
        with self._engine.connect() as connection:
            return _infos(connection, connection.execute(query).all())

    def find(self, id: str) -> KeyInfo:
        """The key of this id. Raises LookupError when there is none."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(tables.keys).where(tables.keys.c.id == id)).all()
            for info in _infos(connection, rows):
                return info
        raise LookupError(f"key {id!r}: there is none")

    def revoke(self, id: str) -> None:
        """Refuse a key from now on. Raises LookupError when there is none; revoking twice changes nothing."""
        self.find(id)
        with self._engine.begin() as connection:
            query = update(tables.keys).where(tables.keys.c.id == id, tables.keys.c.revoked.is_(None))
            connection.execute(query.values(revoked=self._clock()))
        self.changes += 1

    def check(self, secret: str) -> Caller | None:
        """Who holds this secret; None when it is unknown, expired or revoked."""
        found = self.holder(digest_of(secret))
        return found[1] if found is not None and found[0].holds(self._clock()) else None

    def holder(self, digest: str) -> tuple[KeyInfo, Caller] | None:
        """The key whose secret has this digest, and who holds it, be it expired or revoked."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(tables.keys).where(tables.keys.c.digest == digest)).all()
            infos = _infos(connection, rows)
        if not infos:
            return None
        info = infos[0]
        projects = tuple(self.projects()) if info.everywhere else info.projects
        return info, Caller(projects, info.role, info.id, limits=info.limits, everywhere=info.everywhere)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.dispose()

    @property
    def _engine(self) -> Engine:
        with self._opening:
            if self._opened is None:
                self._opened = tables.open_tables(self._where)
            return self._opened

    def _insert(
        self, id: str, projects: tuple[str, ...], role: Role, name: str, ttl: float | None, limits: KeyLimits
    ) -> tuple[str, KeyInfo]:
        if role not in KEY_ROLES:
            raise ValueError(f"role={role!r}: use one of {', '.join(KEY_ROLES)}")
        everywhere = ALL_PROJECTS in projects
        if everywhere and (role != "operator" or len(projects) > 1):
            raise ValueError(f"role={role!r}: a key for all projects is an operator's, and names no other project")
        secret = _PREFIX + secrets.token_urlsafe(32)
        now = self._clock()
        info = KeyInfo(id, projects, role, name, now, None if ttl is None else now + ttl, None, limits)
        with self._engine.begin() as connection:
            if not everywhere:
                _check_projects(connection, projects)
            values = {"id": id, "role": role, "name": name, "created": now, "expires": info.expires, "revoked": None}
            connection.execute(insert(tables.keys).values(digest=digest_of(secret), project=projects[0], **values))
            for project in projects[1:]:
                connection.execute(insert(tables.key_projects).values(key=id, project=project))
            if limits != UNLIMITED:
                connection.execute(insert(tables.key_limits).values(key=id, **asdict(limits)))
        return secret, info


def _check_projects(connection: Connection, projects: Iterable[str]) -> None:
    for project in projects:
        if connection.execute(select(tables.projects.c.id).where(tables.projects.c.id == project)).first() is None:
            raise LookupError(f"there is no project {project!r}")


def _origins(origins: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(check_origin(origin) for origin in origins))


def _write_origins(connection: Connection, project: str, origins: Iterable[str]) -> None:
    for origin in origins:
        connection.execute(insert(tables.project_origins).values(project=project, origin=origin))


def digest_of(secret: str) -> str:
    """What is kept of a key. It has 256 random bits: a plain hash will do, and finding it by that tells nothing by timing."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _infos(connection: Connection, rows: Sequence[Any]) -> list[KeyInfo]:
    """Rows of ``keys`` with what the other tables know of them."""
    ids = [row.id for row in rows]
    more: defaultdict[str, list[str]] = defaultdict(list)
    table = tables.key_projects
    for row in connection.execute(select(table).where(table.c.key.in_(ids)).order_by(table.c.project)):
        more[row.key].append(row.project)
    names = [field.name for field in fields(KeyLimits)]
    found = connection.execute(select(tables.key_limits).where(tables.key_limits.c.key.in_(ids)))
    limits = {row.key: KeyLimits(**{name: getattr(row, name) for name in names}) for row in found}
    return [
        KeyInfo(
            id=row.id,
            projects=(row.project, *more[row.id]),
            role=row.role,
            name=row.name,
            created=row.created,
            expires=row.expires,
            revoked=row.revoked,
            limits=limits.get(row.id, UNLIMITED),
        )
        for row in rows
    ]
