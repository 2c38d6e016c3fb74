"""``plaudit projects``: chat products that share a gateway, each with its own keys, adapters and rollouts."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from ops.cli.common import CommandError, DataDir, Json, print_json, print_table, settings_from, when
from ops.cli.keys import audit, open_store

app = typer.Typer(no_args_is_help=True, help="Projects that share the gateway: create, list, origins.")

_Name = Annotated[str, typer.Argument(help="Lower-case letters, digits and hyphens.")]
_Origins = Annotated[
    list[str] | None,
    typer.Option(
        "--origin",
        help="A web page's origin, such as https://app.example, that may rate with a receipt alone; may be given again.",
        show_default=False,
    ),
]


@app.command()
def create(name: _Name, origins: _Origins = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Make a project. Making it again with the same origins changes nothing."""
    settings = settings_from(data_dir)
    store = open_store(settings)
    try:
        made = store.create_project(name, origins or ())
    except ValueError as error:
        raise CommandError(str(error)) from error
    if made:
        audit(settings, "project.create", name)
    if not made and origins and set(origins) != set(store.origins().get(name, ())):
        options = " ".join(f"--origin {origin}" for origin in origins)
        raise CommandError(f"project {name!r}: it has other origins; replace them: plaudit projects origins {name} {options}")
    if json:
        print_json(_row(store, name))
    else:
        print(f"{'made' if made else 'there already:'} {name}")


@app.command("list")
def list_projects(data_dir: DataDir = None, json: Json = False) -> None:
    """Every project, oldest first."""
    store = open_store(settings_from(data_dir))
    rows = [_row(store, name) for name in store.projects()]
    if json:
        print_json(rows)
        return
    cells = [[row["name"], when(row["created"]), "\n".join(row["origins"]), row["keys"]] for row in rows]
    print_table("Projects", ["name", "created", "origins", "keys"], cells)


@app.command()
def origins(name: _Name, origins: _Origins = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Replace a project's origins; without --origin it has none. Running gateways follow within a second."""
    settings = settings_from(data_dir)
    store = open_store(settings)
    try:
        store.set_origins(name, origins or ())
    except LookupError as error:
        raise CommandError(f"project {name!r}: {error}; see 'plaudit projects list'") from error
    except ValueError as error:
        raise CommandError(str(error)) from error
    audit(settings, "project.origins", name)
    if json:
        print_json(_row(store, name))
    else:
        print(f"origins of {name}: {', '.join(origins or ()) or 'none'}")


def _row(store: Any, name: str) -> dict[str, Any]:
    """``keys`` is how many open the project now."""
    now = time.time()
    return {
        "name": name,
        "created": store.projects()[name],
        "origins": store.origins().get(name, ()),
        "keys": sum(info.holds(now) for info in store.list(name)),
    }
