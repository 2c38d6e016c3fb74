"""``plaudit adapters``: what has been trained, why it was taken or refused, what it learned from, and where two differ."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from feedback.events import BASE
from ops.cli import load
from ops.cli.common import CommandError, DataDir, Json, Project, no_foreign_bars, print_json, print_table, settings_from, when
from ops.cli.person import IdKind, User, person_of
from ops.registry import AdapterManifest, AdapterRefused, Registry

if TYPE_CHECKING:
    from pathlib import Path

    from ops.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Adapters: list, show, diff, of-user, card.")

_Id = Annotated[str, typer.Argument(help="As in 'plaudit adapters list'.")]


@app.command("list")
def list_adapters(data_dir: DataDir = None, project: Project = None, json: Json = False) -> None:
    """The adapters of a project, oldest first, with what became of each."""
    from ops.erase import tainted_adapters
    from ops.lineage import adapter_states

    settings = settings_from(data_dir, project=project)
    manifests = _adapters_of(settings)
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


def _adapters_of(settings: Settings) -> list[AdapterManifest]:
    """Of the project, whose name may be mistyped where there are none."""
    manifests = Registry(settings.adapters_dir).list(settings.project)
    if not manifests:
        print(f"plaudit: project {settings.project!r} has no adapter", file=sys.stderr)
    return manifests


@app.command()
def show(
    adapter_id: _Id,
    feedback: Annotated[bool, typer.Option("--feedback", help="List the feedback that made it, from the log.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """One adapter: parent, state, gates with figures, and which feedback it was trained on."""
    from ops.erase import tainted_adapters
    from ops.lineage import adapter_states

    settings = settings_from(data_dir)
    manifest = _manifest(settings, adapter_id)
    state = adapter_states(settings, [manifest])[manifest.id]
    tainted = tainted_adapters(settings, manifest.project).get(manifest.id)
    made_of = _feedback(settings, manifest) if feedback else None
    if json:
        more = {} if made_of is None else {"feedback": made_of}
        print_json(manifest.model_dump(mode="json") | {"state": state, "tainted": tainted} | more)
        return
    gates = [[g.name, g.outcome, g.value, g.threshold, g.detail] for g in manifest.gates]
    print(f"{manifest.id}: {state}; parent {manifest.parent}; published {when(manifest.published)}")
    if tainted is not None:
        print(f"tainted: {tainted}")
    print_table("Gates", ["gate", "outcome", "figure", "threshold", "detail"], gates)
    print_table("Training", ["what", "value"], _told(manifest))
    if made_of is not None:
        _print_feedback(made_of)


@app.command("of-user")
def of_user(
    user: User,
    kind: IdKind = "user",
    project: Project = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Which adapters have learned from somebody's words or votes, themselves or through what they were made from."""
    from ops.learned_from import containing
    from ops.lineage import adapter_states

    settings = settings_from(data_dir, project=project)
    person = person_of(settings, user, kind)
    registry, manifests = Registry(settings.adapters_dir), _adapters_of(settings)
    found = containing(registry, manifests, person)
    states = adapter_states(settings, manifests)
    if json:
        adapters = [{"id": adapter, "state": states[adapter], "why": why} for adapter, why in found.items()]
        print_json({"project": settings.project, "user": person, "adapters": adapters})
        return
    rows = [[adapter, states[adapter], why] for adapter, why in found.items()]
    print_table(f"Adapters of {settings.project} that contain {person}", ["id", "state", "why"], rows)
    if not rows:
        print(f"None has learned from {user!r}. Looked for is the id that the application sent as `user` with its chats.")


@app.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="An adapter's id, or 'base'.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another's, or 'base'.")],
    answers: Annotated[bool, typer.Option("--answers", help="Ask both, and show what they say side by side.")] = False,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", help="Ask this; may be given several times. [default: a few probes]", show_default=False),
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Where two adapters differ: figures, gates, settings; with --answers also what they say."""
    from ops import adapter_diff

    settings = settings_from(data_dir)
    a, b = (None if each == BASE else _manifest(settings, each) for each in (first, second))
    gates, figures, config = adapter_diff.gates_of(a, b), adapter_diff.figures_of(a, b), adapter_diff.settings_of(a, b)
    said = _answers(_of_model(settings, a or b, data_dir), [first, second], prompt or []) if answers or prompt else None
    if json:
        told = {name: [None if gate is None else gate.model_dump(mode="json") for gate in both] for name, both in gates.items()}
        more = {} if said is None else {"answers": said}
        print_json({"adapters": [first, second], "figures": figures, "gates": told, "settings": config} | more)
        return
    columns = ["what", first, second]
    print_table("Gates", columns, [[name, *map(_verdict, both)] for name, both in gates.items()])
    lines = {name: both for name, both in figures.items() if not any(isinstance(each, list) for each in both)}
    print_table("Figures", columns, [[name, *both] for name, both in lines.items()])
    print_table("Settings", columns, [[name, *both] for name, both in config.items()])
    if said is not None:
        print_table("Answers", ["prompt", first, second], [[row["prompt"], row[first], row[second]] for row in said])


@app.command()
def card(adapter_id: _Id, data_dir: DataDir = None) -> None:
    """Print an adapter's model card, as the Hugging Face hub takes it."""
    from ops.model_card import card_of

    print(card_of(_manifest(settings_from(data_dir), adapter_id)), end="")


def _manifest(settings: Settings, adapter_id: str) -> AdapterManifest:
    try:
        return Registry(settings.adapters_dir).get(adapter_id)
    except LookupError as error:
        raise CommandError(f"adapter {adapter_id!r}: there is none; see 'plaudit adapters list'") from error
    except AdapterRefused as error:
        raise CommandError(str(error)) from error


def _told(manifest: AdapterManifest) -> list[list[Any]]:
    from ops.model_card import ranges_of

    offsets = {f"offsets.{topic}": told for topic, told in ranges_of(manifest).items()}
    return [[key, value] for key, value in ({k: v for k, v in manifest.training.items() if k != "offsets"} | offsets).items()]


def _feedback(settings: Settings, manifest: AdapterManifest) -> dict[str, Any]:
    from dataclasses import asdict

    from ops.open_log import open_log_of

    if settings.log_backend == "sqlite" and not settings.log_path.exists():
        raise CommandError(f"--feedback: there is no event log {settings.log_path} to find it in")
    with open_log_of(settings) as log:
        try:
            return asdict(load("trainer.explain:feedback_of")(log, manifest))
        except load("trainer.explain:NotExplained") as error:
            raise CommandError(f"--feedback: {error}") from error


def _print_feedback(made_of: dict[str, Any]) -> None:
    columns = ["feedback_id", "kind", "learnt_by", "new", "rater", "time"]
    rows = [[when(row[name]) if name == "time" else row[name] for name in columns] for row in made_of["feedback"]]
    print_table("Feedback", columns, rows)
    verdict = (
        "as in the manifest" if made_of["matches"] else "NOT as in the manifest: people were erased since, or records deleted"
    )
    print(f"{len(rows)} lessons, Merkle root {made_of['merkle_root']}: {verdict}")


def _answers(settings: Settings, adapters: list[str], prompts: list[str]) -> list[dict[str, str]]:
    no_foreign_bars()
    try:
        said: list[dict[str, str]] = load("trainer.compare:said_by")(settings, adapters, prompts)
    except AdapterRefused as error:
        raise CommandError(f"--answers: {error}") from error
    return said


def _of_model(settings: Settings, manifest: AdapterManifest | None, data_dir: Path | None) -> Settings:
    """The settings for the model that the adapter is for: the one at hand, else that of the name that it tells."""
    from ops.models import ModelError, prepared

    name = manifest.training.get("model") if manifest is not None else None
    try:
        at_hand = manifest is None or name is None or prepared(settings).digest == manifest.base_model
    except ModelError:
        at_hand = False
    return settings if at_hand else settings_from(data_dir, model=name)


def _verdict(gate: Any) -> str:
    if gate is None:
        return ""
    return f"{gate.outcome if gate.passed else 'FAILED'} {'' if gate.value is None else format(gate.value, '.4g')}".strip()
