"""The tables of users' text keys and of their erasures, and what is asked of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Float, Integer, LargeBinary, MetaData, String, Table, func, insert, select, update

from feedback.log import LogUnavailable
from feedback.seal import Owner
from ops.master_keys import WRAPPED_BYTES

AT_ONCE = 500
"""Owners, or keys, that are asked for in one statement."""

DESTROYED = bytes(WRAPPED_BYTES)
"""Written over a key in its place, in as many bytes: no page is split or moved, and no copy is left behind."""

metadata = MetaData()

text_keys = Table(
    "text_keys",
    metadata,
    Column("project", String, primary_key=True),
    Column("user", String, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("master", String, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
)
_erasures = Table(
    "erasures",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("project", String, nullable=False),
    Column("user", String, nullable=False),
    Column("time", Float, nullable=False),
)


class Erasure(NamedTuple):
    """A user, by hash, whose keys were destroyed at ``time`` (Unix seconds)."""

    project: str
    user: str
    time: float


def owner_of_row(row: Any) -> Owner:
    return Owner(row.project, row.user)


def last_erasure(connection: Connection) -> int:
    """The number of the last erasure; 0 before the first."""
    return connection.execute(select(func.max(_erasures.c.number))).scalar() or 0


def erasures_of(connection: Connection, project: str) -> list[Erasure]:
    """Oldest first."""
    query = select(_erasures).where(_erasures.c.project == project).order_by(_erasures.c.number)
    return [Erasure(row.project, row.user, row.time) for row in connection.execute(query)]


def destroy(connection: Connection, owner: Owner, now: float) -> int:
    """Note the erasure, and write over all of a user's keys that stand; how many there were."""
    theirs = (text_keys.c.project == owner.project) & (text_keys.c.user == owner.user)
    connection.execute(insert(_erasures).values(project=owner.project, user=owner.user, time=now))
    standing = update(text_keys).where(theirs, text_keys.c.wrapped != DESTROYED)
    return int(connection.execute(standing.values(wrapped=DESTROYED)).rowcount)


def foreign_rows(connection: Connection, master: str) -> Sequence[Any]:
    """Some rows that stand and are wrapped with another master key."""
    others = select(text_keys).where(text_keys.c.master != master, text_keys.c.wrapped != DESTROYED).limit(AT_ONCE)
    return connection.execute(others).all()


def replace_row(connection: Connection, row: Any, master: str, wrapped: bytes) -> int:
    """1, or 0 where the row has been altered or destroyed since it was read."""
    same = [column == row._mapping[column] for column in text_keys.c]
    return int(connection.execute(update(text_keys).where(*same).values(master=master, wrapped=wrapped)).rowcount)


def check_all_there(rows: Sequence[Any], wanted: Collection[tuple[Owner, int]]) -> None:
    """A destroyed key's row stays: one that is missing was made in another database. Its text is not to be taken for erased."""
    lacking = {want for want in wanted if want not in {(owner_of_row(row), row.version) for row in rows}}
    if lacking:
        (owner, version) = min(lacking)
        text = f"the key {version} of {owner.project}/{owner.user} and {len(lacking) - 1} more are not in this database"
        raise LogUnavailable(f"users' text keys: {text}: give all processes the same PLAUDIT_DATABASE_URL, or restore it")


def portions(owners: Sequence[Owner]) -> Iterator[Sequence[Owner]]:
    return (owners[start : start + AT_ONCE] for start in range(0, len(owners), AT_ONCE))


def rows_of(connection: Connection, owners: Iterable[Owner]) -> list[Any]:
    """All keys of these users, destroyed ones too."""
    users: defaultdict[str, list[str]] = defaultdict(list)
    for owner in owners:
        users[owner.project].append(owner.user)
    rows: list[Any] = []
    for project, names in users.items():
        names += names[-1:] * ((1 << (len(names) - 1).bit_length()) - len(names))  # few statements for SQLite to remember
        rows += connection.execute(select(text_keys).where(text_keys.c.project == project, text_keys.c.user.in_(names)))
    return rows


def newest_rows(connection: Connection, owners: Iterable[Owner]) -> dict[Owner, Any]:
    """Each user's key of the highest version, where there is one."""
    newest: dict[Owner, Any] = {}
    for row in sorted(rows_of(connection, owners), key=lambda row: row.version):
        newest[owner_of_row(row)] = row
    return newest
