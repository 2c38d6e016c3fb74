"""``plaudit keys``: API keys, stored hashed and shown once; and the keys that receipts are sealed with."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from ops.cli import load
from ops.cli.common import CommandError, DataDir, Json, print_json, print_table, settings_from, when
from ops.settings import Settings

app = typer.Typer(no_args_is_help=True, help="API keys: create, list, revoke; others: rotate-receipts, rotate-text.")

_Requests = Annotated[int | None, typer.Option("--requests-per-min", help="Requests a minute, at most.", show_default=False)]
_Tokens = Annotated[int | None, typer.Option("--tokens-per-min", help="Tokens a minute, at most.", show_default=False)]
_Concurrent = Annotated[int | None, typer.Option("--concurrent", help="Requests at once, at most.", show_default=False)]


def audit(settings: Settings, what: str, target: str) -> None:
    """`ops.audit.audit`, with SQLAlchemy only where something was done."""
    load("ops.audit:audit")(settings, what, target)


def open_store(settings: Settings) -> Any:
    """The settings' keys and projects; the settings' project is made if need be."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    store = load("serving.keys:KeyStore")(settings)
    store.ensure_project(settings.project)
    return store


@app.command()
def create(
    projects: Annotated[
        list[str] | None,
        typer.Option("--project", help="The project whose key it is; may be given again. [default: default]", show_default=False),
    ] = None,
    all_projects: Annotated[bool, typer.Option("--all-projects", help="All there are and will be; for operators.")] = False,
    role: Annotated[str, typer.Option("--role", help="What it may do: app, annotator, operator.")] = "app",
    name: Annotated[str, typer.Option("--name", help="Whose it is, for the list.")] = "",
    days: Annotated[float | None, typer.Option("--days", help="Days until it expires; without: never.", min=0.01)] = None,
    requests_per_min: _Requests = None,
    tokens_per_min: _Tokens = None,
    concurrent: _Concurrent = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Make a key. It is shown this once."""
    if all_projects and projects:
        raise CommandError("--all-projects: leave --project out, the key has them all")
    settings = settings_from(data_dir)
    store = open_store(settings)
    first, *also = [load("serving.keys:ALL_PROJECTS")] if all_projects else projects or ["default"]
    try:
        limits = load("serving.keys:KeyLimits")(requests_per_min, tokens_per_min, concurrent)
        ttl = None if days is None else days * 86_400
        secret, info = store.create(first, role, name, ttl, also=also, limits=limits)
    except LookupError as error:
        missing = next(project for project in (first, *also) if project not in store.projects())
        raise CommandError(f"--project={missing!r}: {error}; make it with 'plaudit projects create {missing}'") from error
    except ValueError as error:
        raise CommandError(f"--{str(error).replace('_per_', '-per-')}") from error
    audit(settings, "key.create", info.id)
    if json:
        print_json({"key": secret, **_row(info)})
    else:
        print(secret)


@app.command("list")
def list_keys(
    project: Annotated[str, typer.Option("--project", help="The project they open.")] = "default",
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """The keys that open a project, without their secrets."""
    rows = [_row(info) for info in open_store(settings_from(data_dir)).list(project)]
    if json:
        print_json(rows)
        return
    columns = ["id", "name", "role", "projects", "limits", "created", "expires", "revoked"]
    print_table(f"Keys of {project}", columns, [[_cell(column, row[column]) for column in columns] for row in rows])


def _row(info: Any) -> dict[str, Any]:
    """As the admin port tells it."""
    return asdict(info) | {"projects": () if info.everywhere else info.projects, "all_projects": info.everywhere}


def _cell(column: str, value: Any) -> Any:
    match column:
        case "projects":
            return ", ".join(value) or "all"
        case "limits":
            return ", ".join(f"{figure} {name.replace('_per_', '/')}" for name, figure in value.items() if figure is not None)
        case "created" | "expires" | "revoked":
            return when(value)
        case _:
            return value


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="As in 'plaudit keys list'.")], data_dir: DataDir = None, json: Json = False
) -> None:
    """Refuse a key from now on; running gateways do so within a second."""
    settings = settings_from(data_dir)
    store = open_store(settings)
    try:
        store.revoke(key_id)
    except LookupError as error:
        raise CommandError(f"key {key_id!r}: there is none; see 'plaudit keys list'") from error
    audit(settings, "key.revoke", key_id)
    if json:
        print_json({"id": key_id, "revoked": True})
    else:
        print(f"revoked {key_id}")


@app.command("rotate-receipts")
def rotate_receipts(data_dir: DataDir = None, json: Json = False) -> None:
    """Seal receipts with a new key from now on; what older keys sealed can be used until it expires."""
    import time

    from ops.receipt_keys import ReceiptKeys

    settings = settings_from(data_dir)
    older = ReceiptKeys.of(settings).rotate(settings.limits.receipt_days, time.time())
    audit(settings, "receipts.rotate", "receipt_keys.json")
    if json:
        print_json({"older_keys": older})
    else:
        print(f"receipts are sealed with a new key; older keys that still open theirs: {older}")


@app.command("rotate-text")
def rotate_text(data_dir: DataDir = None, json: Json = False) -> None:
    """Wrap all keys of users' texts with PLAUDIT_TEXT_KEY; older ones are to be in PLAUDIT_TEXT_KEYS_PREVIOUS until then.

    First start every process with both settings, then run this, then drop PLAUDIT_TEXT_KEYS_PREVIOUS.
    """
    from ops.text_keys import SqlTextKeys

    settings = settings_from(data_dir)
    keys = SqlTextKeys.of(settings)
    try:
        wrapped = keys.rewrap()
    finally:
        keys.close()
    audit(settings, "text-keys.rotate", "text_keys")
    if json:
        print_json({"rewrapped": wrapped})
    else:
        print(f"keys of users' texts that were wrapped anew: {wrapped}")


def check_project(settings: Settings, named: str | None) -> None:
    """Raise `CommandError` for a ``--project`` that has not been made."""
    if named is None:
        return
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    known = load("serving.keys:KeyStore")(settings).projects()
    if named not in known:
        there = ", ".join(known) or "none"
        raise CommandError(f"--project={named!r}: there is none; there are: {there}. Make it: plaudit projects create {named}")
