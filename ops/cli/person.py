"""The person whom a command is about: two options, and the hash that the log knows them by."""

from __future__ import annotations

from typing import Annotated, cast, get_args

import typer

from ops.cli.common import CommandError
from ops.settings import Settings

User = Annotated[str, typer.Argument(help="The application's own id of the user, as it was sent with chats.")]
IdKind = Annotated[str, typer.Option("--kind", help="What the id is of: user, annotator (a key's), conversation.")]


def person_of(settings: Settings, user: str, kind: str) -> str:
    """A hash, see `ops.erase.hash_of`. Raises `CommandError` for no id, and for a kind that there is not."""
    from ops.erase import Kind, hash_of

    if kind not in get_args(Kind):
        raise CommandError(f"--kind={kind!r}: use user, annotator or conversation")
    if not user.strip():
        raise CommandError(f"user={user!r}: name the id that the application sent with its chats")
    return hash_of(settings, settings.project, user, cast(Kind, kind))
