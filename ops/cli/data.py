"""``plaudit import`` and ``plaudit export``: other people's data sets into the log, and the log as data sets."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

import typer

from ops.cli.common import CommandError, DataDir, Json, Project, print_json, print_table, settings_from

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
    limit: Annotated[int | None, typer.Option("--limit", help="Read at most so many rows.", min=1, show_default=False)] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Add a data set's votes to the log. Every row is accounted for; importing it again adds nothing."""
    from ops.importing import import_rows
    from ops.open_log import open_log_of
    from ops.row_files import rows_of

    settings = settings_from(data_dir, project=project)
    with open_log_of(settings) as log:
        account = import_rows(log, itertools.islice(rows_of(file), limit), format=format, project=settings.project)
    report = {"format": format, "project": settings.project, "file": file} | account.report()
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
