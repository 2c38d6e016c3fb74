"""Connections to PostgreSQL of which every wait ends: for connecting, for a statement, for an answer that never comes."""

from __future__ import annotations

import time
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from sqlalchemy import URL, Engine, create_engine, event

CONNECT_S = 3
"""How long connecting may take; libpq counts in whole seconds."""

STATEMENT_S = 4.0
"""When the server itself gives a statement up."""

ANSWER_S = 5.0
"""When we do: for a server that is frozen, or behind a network that swallows everything, whose own clock helps nobody."""

_IDLE_TRANSACTION_S = 30.0
_POOL_SIZE, _POOL_OVERFLOW = 4, 8
_PROBE_S = 0.1


class DeadlineConnection(psycopg.Connection[Any]):
    """Closed once a wait for the server has taken ``answer_s``: what that would say later is nobody's answer any more."""

    answer_s = ANSWER_S

    def wait(self, gen: PQGen[RV], interval: float = _PROBE_S, timeout: float | None = None) -> RV:
        """Raises OperationalError at the deadline."""
        ends = time.monotonic() + (self.answer_s if timeout is None else timeout)
        try:
            return super().wait(gen, interval, ends - time.monotonic())
        except psycopg.OperationalError:
            if timeout is None and time.monotonic() >= ends:
                self.close()
            raise


def open_postgres(url: URL) -> Engine:
    """An engine over few connections, each tried before it is used again. Nothing connects yet.

    What ``url`` says of timeouts and options is left as it is. Statements are not prepared: poolers such as PgBouncer
    give each transaction another connection.
    """
    options = "".join(
        f" -c {name}={int(seconds * 1000)}"
        for name, seconds in {
            "statement_timeout": STATEMENT_S,
            "lock_timeout": STATEMENT_S,
            "idle_in_transaction_session_timeout": _IDLE_TRANSACTION_S,
        }.items()
    )
    ours = {
        "connect_timeout": CONNECT_S,
        "application_name": "plaudit",
        "options": options.strip(),
        "prepare_threshold": None,
    }
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args={name: value for name, value in ours.items() if name not in url.query},
        pool_pre_ping=True,
        pool_size=_POOL_SIZE,
        max_overflow=_POOL_OVERFLOW,
        pool_timeout=ANSWER_S,
    )
    event.listen(engine, "do_connect", _connect)
    return engine


def _connect(dialect: object, record: object, positional: list[Any], named: dict[str, Any]) -> DeadlineConnection:
    return DeadlineConnection.connect(*positional, **named)
