"""``plaudit import`` and ``plaudit export``: other people's data sets into the log, and the log as data sets."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Literal

import typer

from ops.cli.common import CommandError, DataDir, Json, Project, print_json, print_table, settings_from
from ops.cli.keys import audit, check_project

_NAMED = 20
"""Dropped rows that are shown to people; ``--json`` has all of them."""

_ImportFormat = Annotated[
    Literal["hh-rlhf", "ultrafeedback", "ultrafeedback-binarized", "helpsteer3", "pku-saferlhf", "arena"],
    typer.Option("--format", help="Whose columns the rows have."),
]


def import_(
    file: Annotated[str, typer.Argument(help="A .jsonl, .jsonl.gz, .json or .parquet file, a folder of these, or a hub id.")],
    format: _ImportFormat,
    project: Project = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", help="Read at most so many rows.", min=1, show_default=False)
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Add a data set's votes to the log. Every row is accounted for; importing it again adds nothing.

    Imported votes are lessons for the trainer, and evidence for no rollout. Where no raters are named, each row is another one's.
    """
    from ops.importing import import_rows
    from ops.open_log import open_log_of
    from ops.row_files import rows_of

    settings = settings_from(data_dir, project=project)
    check_project(settings, project)
    with open_log_of(settings) as log:
        account = import_rows(log, itertools.islice(rows_of(file), limit), format=format, project=settings.project)
    report = {"format": format, "project": settings.project, "file": file} | account.report()
    audit(settings, "data.import", f"{settings.project}/{format}")
    if json:
        print_json(report)
    else:
        shown = [[name, report[name]] for name in ("project", "rows", "imported", "already", "dropped", "votes")]
        print_table(f"Imported from {file}", ["what", "value"], shown)
        if account.dropped:
            rows = [[row.where, f"{row.reason}: {row.detail}" if row.detail else row.reason] for row in account.dropped[:_NAMED]]
            more = f" (the first {_NAMED}; --json has all)" if len(account.dropped) > _NAMED else ""
            print_table(f"Dropped{more}", ["row", "reason"], rows)
    if not account.rows:
        raise CommandError(f"FILE={file!r}: there are no rows in it")
    if len(account.dropped) == account.rows:
        raise CommandError(f"FILE={file!r}: none of its {account.rows} rows could be used; is it really --format {format}?")


def export(
    format: Annotated[
        Literal["preference", "kto", "sft", "raw"],
        typer.Option(
            "--format", help="TRL's columns: prompt/chosen/rejected, prompt/completion/label, messages. raw: all events."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The file. One that is there is replaced, once the new one is whole.")],
    parquet: Annotated[bool, typer.Option("--parquet", help="Write Parquet, not JSON lines.")] = False,
    project: Project = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Write a project's standing votes, or all its events, with their texts, to one file. It loads with datasets.load_dataset.

    The column "split" is a vote's own for ever: "test" has neither rater nor prompt in common with "train"; "test_rater",
    "test_prompt" and "test_time" are new in that one respect.
    """
    from ops.exporting import export as write
    from ops.open_log import existing_log_of

    settings = settings_from(data_dir, project=project)
    if parquet != (out.suffix == ".parquet") and (parquet or out.suffix == ".parquet"):
        fix = "name it .parquet" if parquet else "add --parquet, or name it .jsonl"
        raise CommandError(f"--out={str(out)!r}: {fix}")
    if out.is_dir() or not out.parent.is_dir():
        raise CommandError(f"--out={str(out)!r}: name a file in a folder that is there")
    with existing_log_of(settings) as log:
        report = write(log, format=format, project=settings.project, path=out, parquet=parquet)
    audit(settings, "data.export", f"{settings.project}/{format}")
    if json:
        print_json(report)
        return
    counts = {f"{name}: {key}": n for name in ("splits", "types", "left_out") for key, n in report.get(name, {}).items()}
    shown = {name: report[name] for name in ("project", "rows", "votes") if name in report} | counts
    print_table(f"Exported to {out}", ["what", "value"], [[name, value] for name, value in shown.items()])
