"""``plaudit erase-user``: one person's words, made unreadable for ever."""

from __future__ import annotations

from dataclasses import asdict

from ops.cli.common import CommandError, DataDir, Json, Project, print_json, settings_from
from ops.cli.keys import check_project
from ops.cli.person import IdKind, User, person_of


def erase_user(
    user: User,
    kind: IdKind = "user",
    project: Project = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Destroy the keys of all that somebody wrote, void what they said, and name the adapters that learned from it."""
    from ops.audit import audit
    from ops.erase import erase_user as erase

    settings = settings_from(data_dir, project=project)
    if not settings.log_path.exists():
        raise CommandError(f"--data-dir: there is no event log {settings.log_path}")
    check_project(settings, project)
    person = person_of(settings, user, kind)
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
