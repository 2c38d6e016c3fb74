"""``plaudit adapters``: what has been trained, why it was taken or refused, and what it learned from."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli.common import CommandError, DataDir, Json, Project, print_json, print_table, settings_from, when
from ops.registry import AdapterRefused, Registry

app = typer.Typer(no_args_is_help=True, help="Adapters: list, show.")


@app.command("list")
def list_adapters(data_dir: DataDir = None, project: Project = None, json: Json = False) -> None:
    """The adapters of a project, oldest first, with what became of each."""
    from ops.erase import tainted_adapters
    from ops.lineage import adapter_states

    settings = settings_from(data_dir, project=project)
    manifests = Registry(settings.adapters_dir).list(settings.project)
    states = adapter_states(settings, manifests)
    tainted = tainted_adapters(settings, settings.project)
    if json:
        print_json([m.model_dump(mode="json") | {"state": states[m.id], "tainted": tainted.get(m.id)} for m in manifests])
        return
    rows = [
        [
            m.id,
            m.parent,
            states[m.id],
            f"{sum(g.passed for g in m.gates)}/{len(m.gates)}",
            when(m.published),
            tainted.get(m.id, ""),
        ]
        for m in manifests
    ]
    print_table(f"Adapters of {settings.project}", ["id", "parent", "state", "gates", "published", "tainted"], rows)


@app.command()
def show(
    adapter_id: Annotated[str, typer.Argument(help="As in 'plaudit adapters list'.")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """One adapter: parent, state, gates with figures, and what it was trained on."""
    from ops.erase import tainted_adapters
    from ops.lineage import adapter_states

    settings = settings_from(data_dir)
    try:
        manifest = Registry(settings.adapters_dir).get(adapter_id)
    except LookupError as error:
        raise CommandError(f"adapter {adapter_id!r}: there is none; see 'plaudit adapters list'") from error
    except AdapterRefused as error:
        raise CommandError(str(error)) from error
    state = adapter_states(settings, [manifest])[manifest.id]
    tainted = tainted_adapters(settings, manifest.project).get(manifest.id)
    if json:
        print_json(manifest.model_dump(mode="json") | {"state": state, "tainted": tainted})
        return
    gates = [[g.name, "passed" if g.passed else "failed", g.value, g.threshold, g.detail] for g in manifest.gates]
    print(f"{manifest.id}: {state}; parent {manifest.parent}; published {when(manifest.published)}")
    if tainted is not None:
        print(f"tainted: {tainted}")
    print_table("Gates", ["gate", "outcome", "figure", "threshold", "detail"], gates)
    print_table("Training", ["what", "value"], [[key, value] for key, value in manifest.training.items()])
