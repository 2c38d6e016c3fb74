"""Erasing a person: their keys are destroyed, what they said counts no more, and what learned from them is named."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from feedback.events import Event, Topic, UserErased
from feedback.ids import annotator_hash, conversation_hash, new_id, user_hash
from feedback.log import EventLog
from feedback.seal import Owner
from ops.learned_from import taint
from ops.open_log import open_log_of
from ops.registry import Registry
from ops.secrets import load_secret, subkey
from ops.settings import Settings
from ops.text_keys import SqlTextKeys

Kind = Literal["user", "annotator", "conversation"]
_HASHES = {"user": user_hash, "annotator": annotator_hash, "conversation": conversation_hash}
_TOPICS: tuple[Topic, ...] = ("completions", "feedback")


@dataclass(frozen=True)
class Erased:
    """``user`` is a hash; ``keys`` how many keys were destroyed; ``adapters`` why each tainted one is, by its id."""

    project: str
    user: str
    keys: int
    adapters: dict[str, str]


def hash_of(settings: Settings, project: str, name: str, kind: Kind = "user") -> str:
    """How a person is known in the log: by the application's user id, an annotator's key id, or a conversation without a user."""
    return _HASHES[kind](subkey(load_secret(settings), "users"), project, name)


def erase_user(settings: Settings, project: str, user: str, now: float | None = None) -> Erased:
    """Erase whom the hash ``user`` names. Erasing again is no error, and ends what was cut short.

    Raises `LogUnavailable`: then the keys may be destroyed already, while what was said still counts.
    """
    now = time.time() if now is None else now
    keys = SqlTextKeys.of(settings)
    try:
        destroyed = keys.erase(Owner(project, user), now)
        with open_log_of(settings) as log:
            log.append([_event(log, project, user, now)])
    finally:
        keys.close()
    registry = Registry(settings.adapters_dir)
    return Erased(project, user, destroyed, taint(registry, registry.list(project), {user}))


def tainted_adapters(settings: Settings, project: str) -> dict[str, str]:
    """Why adapters of the project are tainted by anybody's erasure, by id."""
    if settings.database_url is None and not settings.database_path.exists():
        return {}
    keys = SqlTextKeys.of(settings)
    try:
        erased = {erasure.user for erasure in keys.erased(project)}
    finally:
        keys.close()
    registry = Registry(settings.adapters_dir)
    return taint(registry, registry.list(project), erased)


def _event(log: EventLog, project: str, user: str, now: float) -> Event:
    ends = {topic: {p: log.end(topic, p) for p in range(log.partitions(topic))} for topic in _TOPICS}
    return Event(id=new_id("erase_"), time=now, project=project, key=user, data=UserErased(user=user, ends=ends))
