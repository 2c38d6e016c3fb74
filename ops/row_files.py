"""The rows of a data set, wherever it is: a file, a folder of files, or the Hugging Face hub."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from feedback.importers.record import RowRefused
from ops.errors import CommandError

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".parquet")

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_PARQUET_BATCH = 256


class Row(NamedTuple):
    where: str
    """File and number within it, from 1: ``train.jsonl:12``."""
    value: Any
    """What the row says; a `RowRefused` for one that cannot be read."""


Hub = Callable[[str], Mapping[str, Iterable[Any]]]


def hub_splits(name: str) -> Mapping[str, Iterable[Any]]:
    """All splits of a data set of the hub, read as they come. Needs a network."""
    import datasets

    try:
        splits: Mapping[str, Iterable[Any]] = datasets.load_dataset(name, streaming=True)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CommandError(f"FILE={name!r}: there is no such file, and the hub does not give it: {reason}") from error
    return splits


def rows_of(source: str, hub: Hub = hub_splits) -> Iterator[Row]:
    """All rows of a file, of a folder's files by name, or of a hub id (``owner/name``).

    Raises `CommandError` for what is none of these, or is damaged.
    """
    path = Path(source)
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.name.endswith(SUFFIXES)]
        if not files:
            raise CommandError(f"FILE={source!r}: the folder has no file that ends in {', '.join(SUFFIXES)}")
        for file in files:
            yield from _rows_of_file(file, str(file.relative_to(path)))
    elif path.is_file():
        yield from _rows_of_file(path, path.name)
    elif _HUB_ID.fullmatch(source) and not source.endswith(SUFFIXES):
        for split, rows in hub(source).items():
            yield from _numbered(f"{source}/{split}", rows)
    else:
        raise CommandError(f"FILE={source!r}: there is no such file or folder")


def _rows_of_file(path: Path, name: str) -> Iterator[Row]:
    try:
        if path.name.endswith(".parquet"):
            yield from _numbered(name, _parquet(path))
        elif path.name.endswith(".json"):
            yield from _numbered(name, _json_list(path))
        elif path.name.endswith(".jsonl.gz"):
            with gzip.open(path, "rb") as file:
                yield from _lines(name, file)  # type: ignore[arg-type]
        elif path.name.endswith(".jsonl"):
            with path.open("rb") as file:
                yield from _lines(name, file)
        else:
            raise CommandError(f"FILE={str(path)!r}: name it with its format: {', '.join(SUFFIXES)}")
    except (OSError, EOFError, zlib.error) as error:
        raise CommandError(f"FILE={str(path)!r} cannot be read to its end: {error}; what came before is imported") from error


def _numbered(name: str, rows: Iterable[Any]) -> Iterator[Row]:
    for number, value in enumerate(rows, 1):
        yield Row(f"{name}:{number}", value)


def _lines(name: str, file: BinaryIO) -> Iterator[Row]:
    """One row a line; only a line feed ends a line, and blank lines are no rows."""
    for number, line in enumerate(file, 1):
        if line.strip():
            yield Row(f"{name}:{number}", _json(line))


def _json(line: bytes) -> Any:
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError:
        return RowRefused("the line is not UTF-8")
    except (ValueError, RecursionError) as error:
        return RowRefused("the line is not JSON", str(error))


def _json_list(path: Path) -> list[Any]:
    try:
        rows = json.loads(path.read_bytes().decode())
    except (ValueError, RecursionError) as error:
        raise CommandError(f"FILE={str(path)!r} is not JSON: {error}; name it .jsonl if it has one row a line") from error
    if not isinstance(rows, list):
        raise CommandError(f"FILE={str(path)!r}: a .json file is one list of rows; this is a {type(rows).__name__}")
    return rows


def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_PARQUET_BATCH):
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise CommandError(f"FILE={str(path)!r} is no good Parquet: {error}; what came before is imported") from error
