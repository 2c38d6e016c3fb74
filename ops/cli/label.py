"""``plaudit label``: streams of work for annotators, what became of their tasks, and how far they agree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ops.cli import load
from ops.cli.common import CommandError, DataDir, Json, Project, print_json, print_table, settings_from, when
from ops.cli.keys import audit, open_store
from ops.open_log import open_log_of
from ops.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Labeling: streams, tasks, raters, agreement, check.")
streams_app = typer.Typer(no_args_is_help=True, help="Streams: create, list, add, draw, close.")
app.add_typer(streams_app, name="streams")

_STREAM = "Its id, or its name in the project."
_Stream = Annotated[str, typer.Argument(help=_STREAM)]
_Only = Annotated[str | None, typer.Option("--stream", help=f"{_STREAM} [default: all of the project]", show_default=False)]


def open_streams(settings: Settings) -> Any:
    return load("serving.labeling.streams:Streams")(open_store(settings))


@streams_app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and hyphens.")],
    kind: Annotated[str, typer.Option("--kind", help="rating, preference, ranking, correction, score, flag.")] = "rating",
    guideline: Annotated[Path | None, typer.Option("--guideline", help="A file: how to judge.", show_default=False)] = None,
    source: Annotated[str, typer.Option("--source", help="newest, random or share of the log; listed; live.")] = "newest",
    share: Annotated[float | None, typer.Option("--share", help="Of the source 'share'.", show_default=False)] = None,
    adapter: Annotated[str | None, typer.Option("--adapter", help="Its answers only.", show_default=False)] = None,
    topic: Annotated[list[str] | None, typer.Option("--topic", help="Of the source 'live'; may be given again.")] = None,
    turns: Annotated[
        int | None, typer.Option("--turns", help="Of the source 'live': answers, at least.", show_default=False)
    ] = None,
    metric: Annotated[str, typer.Option("--metric", help="Of the kind 'score': what is scored.")] = "",
    quota: Annotated[int, typer.Option("--quota", help="Items to be judged.")] = 100,
    overlap: Annotated[int, typer.Option("--overlap", help="Raters for each item.")] = 1,
    golden_rate: Annotated[float, typer.Option("--golden-rate", help="Chance that a task is a golden item.")] = 0.0,
    test_items: Annotated[int, typer.Option("--test-items", help="Golden items of the entry test.")] = 0,
    test_share: Annotated[float, typer.Option("--test-share", help="What share of them must be right.")] = 0.8,
    lease_s: Annotated[float, typer.Option("--lease-s", help="Seconds until a task goes to somebody else.")] = 1800.0,
    data_dir: DataDir = None,
    project: Project = None,
    json: Json = False,
) -> None:
    """Make a stream, and draw its items from the log where the source says so."""
    settings = settings_from(data_dir, project=project)
    given = {"share": share, "adapter": adapter, "topics": topic, "turns": turns}
    asked = {
        "name": name,
        "kind": kind,
        "guideline": "" if guideline is None else _text_of(guideline),
        "source": {"rule": source} | {field: value for field, value in given.items() if value},
        "metric": metric,
        "quota": quota,
        "overlap": overlap,
        "golden_rate": golden_rate,
        "entry_test": {"items": test_items, "share": test_share},
        "lease_s": lease_s,
    }
    plan = _checked("serving.labeling.admin_routes:NewStream", asked).plan()
    streams = open_streams(settings)
    try:
        stream = streams.create(settings.project, name, plan)
    except ValueError as error:
        raise CommandError(f"{error}: use another name") from error
    audit(settings, "label.create", stream.id)
    with open_log_of(settings) as log:
        streams.draw(stream, log)
    _show(streams, stream, json)


@streams_app.command("list")
def list_streams(data_dir: DataDir = None, project: Project = None, json: Json = False) -> None:
    """The streams of a project, oldest first, with how they fare."""
    settings = settings_from(data_dir, project=project)
    streams = open_streams(settings)
    view = load("serving.labeling.statistics:stream_view")
    views = [view(streams, stream) for stream in streams.list([settings.project])]
    if json:
        print_json([one.model_dump(mode="json") for one in views])
        return
    columns = [
        "id",
        "name",
        "kind",
        "source",
        "items",
        "done",
        "raters",
        "golden right",
        "rejected",
        "harmful",
        "s/task",
        "state",
    ]
    print_table(f"Streams of {settings.project}", columns, [_row(one) for one in views])


@streams_app.command()
def add(
    stream: _Stream,
    items: Annotated[Path, typer.Argument(help='JSON lines: {"completion_ids": [...], "right": ..., "tests": "..."}.')],
    data_dir: DataDir = None,
    project: Project = None,
    json: Json = False,
) -> None:
    """Add answers of the log to a stream; those with a right answer are golden items."""
    settings = settings_from(data_dir, project=project)
    streams = open_streams(settings)
    found = find_stream(streams, settings, stream)
    import json as codec

    try:
        lines = [codec.loads(line) for line in _text_of(items).splitlines() if line.strip()]
    except ValueError as error:
        raise CommandError(f"{items}: {error}; write one JSON object a line") from error
    body = _checked("serving.labeling.admin_routes:NewItems", {"items": lines})
    with open_log_of(settings) as log:
        try:
            added = load("serving.labeling.admin_routes:add_named_items")(streams, log, found, body.items)
        except load("serving.errors:ApiError") as error:
            raise CommandError(str(error)) from error
    audit(settings, "label.add", found.id)
    _tell({"added": added}, f"added {added} of {len(lines)} items", json)


@streams_app.command()
def draw(stream: _Stream, data_dir: DataDir = None, project: Project = None, json: Json = False) -> None:
    """Fill a stream up to its quota from the log, as its source says."""
    settings = settings_from(data_dir, project=project)
    streams = open_streams(settings)
    with open_log_of(settings) as log:
        found = find_stream(streams, settings, stream)
        added = streams.draw(found, log)
    audit(settings, "label.draw", found.id)
    _tell({"added": added}, f"drew {added} items", json)


@streams_app.command()
def close(stream: _Stream, data_dir: DataDir = None, project: Project = None, json: Json = False) -> None:
    """Hand out no more of a stream; tasks that are out can still be answered."""
    settings = settings_from(data_dir, project=project)
    streams = open_streams(settings)
    closed = streams.close(find_stream(streams, settings, stream).id)
    audit(settings, "label.close", closed.id)
    _show(streams, closed, json)


@app.command()
def tasks(only: _Only = None, data_dir: DataDir = None, project: Project = None, json: Json = False) -> None:
    """What was handed out to whom, and what became of it."""
    rows = _views("task_views", only, settings_from(data_dir, project=project))
    if json:
        print_json(rows)
        return
    columns = ["id", "key_id", "golden", "handed_out", "outcome", "reason", "correct", "seconds"]
    print_table("Tasks", columns, [[_task_cell(row, column) for column in columns] for row in rows])


@app.command()
def raters(only: _Only = None, data_dir: DataDir = None, project: Project = None, json: Json = False) -> None:
    """Each annotator's key in each stream: entry test, golden accuracy, rejections, harm, time."""
    rows = _views("rater_views", only, settings_from(data_dir, project=project))
    if json:
        print_json(rows)
        return
    columns = ["key", "stream", "entry test", "judged", "skipped", "expired", "golden right", "rejected", "harmful", "s/task"]
    print_table("Raters", columns, [_rater_row(row) for row in rows])


@app.command()
def agreement(only: _Only = None, data_dir: DataDir = None, project: Project = None, json: Json = False) -> None:
    """How far annotators agree beyond chance, each beside the majority, and what is so by all of them (Dawid-Skene)."""
    settings = settings_from(data_dir, project=project)
    streams = open_streams(settings)
    chosen = streams.list([settings.project]) if only is None else [find_stream(streams, settings, only)]
    with open_log_of(settings) as log:
        found = [load("serving.labeling.agreement:agreement")(streams, stream, log) for stream in chosen]
    if json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    for one in found:
        counts = f"{one.judgements} judgements of {one.items} items, {one.overlapping} of them by several"
        print(f"{one.name}: alpha {_figure(one.alpha)}; {counts}")
        rows = [[r.rater, r.judged, r.shared, _percent(r.agreed), _figure(r.kappa)] for r in one.raters]
        print_table("Raters", ["rater", "judged", "with a majority", "agreed", "kappa"], rows)
        items = [[c.item, ", ".join(c.completion_ids), c.label, _percent(c.probability), c.raters] for c in one.consensus]
        print_table("Consensus", ["id", "about", "label", "probability", "raters"], items)


@app.command()
def check(stream: _Stream, data_dir: DataDir = None, project: Project = None, json: Json = False) -> None:
    """Check the Python in a stream's answers: does it parse, do the item's tests pass. The verdicts go to the log."""
    settings = settings_from(data_dir, project=project)
    streams = open_streams(settings)
    with open_log_of(settings) as log:
        checked = list(load("serving.labeling.checks:check_stream")(streams, find_stream(streams, settings, stream), log))
    if json:
        print_json([one.model_dump(mode="json") for one in checked])
        return
    rows = [[one.completion_id, one.parses, one.outcome, one.detail, _seconds(one.seconds)] for one in checked]
    print_table("Code in answers", ["id", "parses", "tests", "detail", "s"], rows)


def _views(name: str, only: str | None, settings: Settings) -> list[dict[str, Any]]:
    streams = open_streams(settings)
    view = load(f"serving.labeling.statistics:{name}")
    chosen = streams.list([settings.project]) if only is None else [find_stream(streams, settings, only)]
    return [row.model_dump(mode="json") for stream in chosen for row in view(streams, stream)]


def find_stream(streams: Any, settings: Settings, name: str) -> Any:
    for stream in streams.list([settings.project]):
        if name in (stream.id, stream.name):
            return stream
    raise CommandError(f"stream {name!r}: project {settings.project!r} has none; see 'plaudit label streams list'")


def _checked(model: str, value: dict[str, Any]) -> Any:
    """``value`` as one of the API's bodies, told by field if it is none."""
    import json as codec

    try:
        return load("serving.validation:parse")(load(model), codec.dumps(value).encode())
    except load("serving.errors:ApiError") as error:
        raise CommandError(str(error)) from error


def _text_of(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: {error}") from error


def _show(streams: Any, stream: Any, json: bool) -> None:
    view = load("serving.labeling.statistics:stream_view")(streams, stream)
    state = "open" if view.closed is None else "closed"
    text = f"{view.id} {view.name}: {state}, {view.items} items of {view.plan.quota}, {view.golden_items} golden"
    if view.missing_golden:
        text += f"; add {view.missing_golden} golden items for the entry test ('plaudit label streams add')"
    _tell(view.model_dump(mode="json"), text, json)


def _tell(value: Any, text: str, json: bool) -> None:
    if json:
        print_json(value)
    else:
        print(text)


def _row(view: Any) -> list[Any]:
    figures = view.figures
    return [
        *(view.id, view.name, view.plan.kind, view.plan.source.rule, f"{view.items}/{view.plan.quota}", view.complete),
        *(view.raters, _percent(figures.golden_accuracy), _percent(figures.rejection_rate), _percent(figures.harmful_rate)),
        *(_seconds(figures.seconds_median), "open" if view.closed is None else "closed"),
    ]


def _rater_row(row: dict[str, Any]) -> list[Any]:
    figures = row["figures"]
    test = {True: "passed", False: "failed", None: "going on"}[row["admitted"]]
    rates = (_percent(figures[name]) for name in ("golden_accuracy", "rejection_rate", "harmful_rate"))
    counts = (figures[name] for name in ("answered", "skipped", "expired"))
    return [row["key_id"], row["stream"], test, *counts, *rates, _seconds(figures["seconds_median"])]


def _task_cell(row: dict[str, Any], column: str) -> Any:
    match column:
        case "handed_out":
            return when(row["handed_out"])
        case "outcome":
            return row["outcome"] or "open"
        case "seconds":
            return _seconds(None if row["server_ms"] is None else row["server_ms"] / 1000)
        case _:
            return row[column]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f}"
