"""``plaudit feedback``: what people say, as it comes and in figures."""

from __future__ import annotations

import json as jsonlib
import sys
import threading
from typing import Annotated, Any

import typer

from feedback.events import FEEDBACK_KINDS, Event
from feedback.log import LogUnavailable, TopicReader
from ops.cli.common import CommandError, DataDir, Json, Project, note_if_empty, print_json, print_table, settings_from, when
from ops.feedback_stats import FeedbackStats
from ops.feedback_tail import Wanted, newest, shown, wanted_of
from ops.open_log import existing_log_of

app = typer.Typer(no_args_is_help=True, help="What people say: tail, stats.")

_POLL_S = 0.5


@app.command()
def tail(
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="So many of the newest.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Then show what comes, until Ctrl-C.")] = False,
    kind: Annotated[list[str] | None, typer.Option("--kind", help="Only this kind; may be repeated.", show_default=False)] = None,
    text: Annotated[bool, typer.Option("--text", help="Also what people wrote.")] = False,
    data_dir: DataDir = None,
    project: Project = None,
    json: Json = False,
) -> None:
    """The newest feedback, oldest first, one line each; with --json a JSON object on each."""
    unknown = [name for name in kind or () if name not in FEEDBACK_KINDS]
    if unknown:
        raise CommandError(f"--kind={unknown[0]!r}: there is no such kind; use {', '.join(FEEDBACK_KINDS)}")
    settings = settings_from(data_dir, project=project)
    wanted = wanted_of(settings.project, kind or [])
    with existing_log_of(settings) as log:
        events, reader = newest(log, lines, wanted)
        for event in events:
            _show(event, text, json)
        if follow:
            try:
                _follow(reader, wanted, text, json)
            except KeyboardInterrupt:
                raise typer.Exit(0) from None


def _follow(reader: TopicReader, wanted: Wanted, text: bool, json: bool) -> None:
    """For ever; a log that is away for a while is said once each time."""
    pause, away = threading.Event(), False
    while True:
        try:
            for record in reader.poll():
                if wanted(record.event):
                    _show(record.event, text, json)
            away = False
        except LogUnavailable as error:
            if not away:
                print(f"plaudit: waiting for the log: {error}", file=sys.stderr)
            away = True
        pause.wait(_POLL_S)


def _show(event: Event, text: bool, json: bool) -> None:
    said = shown(event, text=text)
    if json:
        line = jsonlib.dumps(said, ensure_ascii=False)
    else:
        words = [when(event.time), said["type"].removeprefix("feedback."), said["kind"], *_which(said), _value(said)]
        about = [said["comparison_id"] or said["completion_ids"][0], *said.get("adapters", []), said.get("source", "")]
        written = [repr(said[name]) for name in ("comment", "text") if said.get(name)]
        line = "  ".join(str(word) for word in [*words, *about, f"rater {said['rater'][:8]}", *written] if word != "")
    print(line, flush=True)


def _which(said: dict[str, Any]) -> list[str]:
    """The score, or the action, that is amended or taken back."""
    return [said[word] for word in ("metric", "action") if word in said]


def _value(said: dict[str, Any]) -> str:
    value = said.get("changes") if said["value"] is None else said["value"]
    if isinstance(value, dict):
        return " ".join(f"{name}={'…' if each is None else each}" for name, each in value.items())
    return "" if value is None else f"{value:+d}" if isinstance(value, int) else str(value)


@app.command()
def stats(data_dir: DataDir = None, project: Project = None, json: Json = False) -> None:
    """All feedback of a project, counted: by kind, source, day and adapter; what of it joined, and what became of the rest."""
    settings = settings_from(data_dir, project=project)
    folded = FeedbackStats(settings.project)
    with existing_log_of(settings) as log:
        folded.read(log)
    report = folded.report()
    note_if_empty(settings, sum(report["by_kind"].values()))
    if json:
        print_json(report)
        return
    rate = report["join_rate"]
    report["join_rate"] = "" if rate is None else f"{rate:.4f}"
    plain = [[name.replace("_", " "), value] for name, value in report.items() if not isinstance(value, dict)]
    print_table(f"Feedback of {settings.project}", ["what", "value"], plain)
    for name in ("by_kind", "by_source", "by_day", "dead_letters"):
        rows = [list(each) for each in report[name].items()]
        if rows:
            print_table(name.replace("_", " ").capitalize(), [name.removeprefix("by_"), "events"], rows)
    thumbs = [[adapter, each["up"], each["down"]] for adapter, each in report["thumbs_by_adapter"].items()]
    if thumbs:
        print_table("Thumbs by adapter", ["adapter", "up", "down"], thumbs)
