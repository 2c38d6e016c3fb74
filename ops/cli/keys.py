"""``plaudit keys``: API keys, stored hashed and shown once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from ops.cli import load
from ops.cli.common import CommandError, DataDir, Json, print_json, print_table, settings_from, when
from ops.settings import Settings

app = typer.Typer(no_args_is_help=True, help="API keys: create, list, revoke.")

_Project = Annotated[str, typer.Option("--project", help="The project whose key it is.")]


def _store(settings: Settings) -> Any:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    store = load("serving.keys:KeyStore")(settings.database_path)
    store.ensure_project(settings.project)
    return store


@app.command()
def create(
    project: _Project = "default",
    role: Annotated[Literal["app", "annotator", "operator"], typer.Option("--role", help="What it may do.")] = "app",
    name: Annotated[str, typer.Option("--name", help="Whose it is, for the list.")] = "",
    days: Annotated[float | None, typer.Option("--days", help="Days until it expires; without: never.", min=0.01)] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Make a key. It is shown this once."""
    store = _store(settings_from(data_dir))
    try:
        secret, info = store.create(project=project, role=role, name=name, ttl=None if days is None else days * 86_400)
    except LookupError as error:
        raise CommandError(f"--project={project!r}: {error}") from error
    if json:
        print_json({"key": secret, "id": info.id, "project": info.project, "role": info.role, "expires": info.expires})
    else:
        print(secret)


@app.command("list")
def list_keys(project: _Project = "default", data_dir: DataDir = None, json: Json = False) -> None:
    """The keys of a project, without their secrets."""
    keys = _store(settings_from(data_dir)).list(project)
    rows = [
        {"id": k.id, "name": k.name, "role": k.role, "created": k.created, "expires": k.expires, "revoked": k.revoked}
        for k in keys
    ]
    if json:
        print_json(rows)
    else:
        cells = [[r["id"], r["name"], r["role"], when(r["created"]), when(r["expires"]), when(r["revoked"])] for r in rows]
        print_table(f"Keys of {project}", ["id", "name", "role", "created", "expires", "revoked"], cells)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="As in 'plaudit keys list'.")], data_dir: DataDir = None, json: Json = False
) -> None:
    """Refuse a key from now on."""
    store = _store(settings_from(data_dir))
    try:
        store.revoke(key_id)
    except LookupError as error:
        raise CommandError(f"key {key_id!r}: there is none; see 'plaudit keys list'") from error
    if json:
        print_json({"id": key_id, "revoked": True})
    else:
        print(f"revoked {key_id}")
