"""``plaudit erase-user``: one person's words, made unreadable for ever."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, cast, get_args

import typer

from ops.cli.common import CommandError, DataDir, Json, Project, print_json, settings_from
from ops.cli.keys import check_project


def erase_user(
    user: Annotated[str, typer.Argument(help="The application's own id of the user, as it was sent with chats.")],
    kind: Annotated[str, typer.Option("--kind", help="What the id is of: user, annotator (a key's), conversation.")] = "user",
    project: Project = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Destroy the keys of all that somebody wrote, void what they said, and name the adapters that learned from it."""
    from ops.audit import audit
    from ops.erase import Kind, hash_of
    from ops.erase import erase_user as erase

    if kind not in get_args(Kind):
        raise CommandError(f"--kind={kind!r}: use user, annotator or conversation")
    settings = settings_from(data_dir, project=project)
    if not settings.log_path.exists():
        raise CommandError(f"--data-dir: there is no event log {settings.log_path}")
    check_project(settings, project)
    person = hash_of(settings, settings.project, user, cast(Kind, kind))
    audit(settings, "user.erase", f"{settings.project}/{person}")  # before it is begun: it cannot be undone
    done = erase(settings, settings.project, person)
    if json:
        print_json(asdict(done))
        return
    none = "there was no key: nothing of theirs is kept, or not since they were erased"
    what = f"{done.keys} keys destroyed" if done.keys else none
    print(f"erased {done.user} of {done.project}: {what}")
    for adapter, reason in done.adapters.items():
        print(f"tainted: {adapter}: {reason}")
