"""Rows of a data set as bytes: JSONL or Parquet, each read by ``datasets.load_dataset``. The same rows, the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from typing import Any, BinaryIO, Literal

from feedback.dataset import ABOUT

ExportFormat = Literal["preference", "kto", "sft", "raw"]

_ROW_GROUP = 1000

_TURNS = "turns"
_TEXT = "text"

_COLUMNS: dict[ExportFormat, dict[str, str]] = {
    "preference": {"prompt": _TURNS, "chosen": _TURNS, "rejected": _TURNS},
    "kto": {"prompt": _TURNS, "completion": _TURNS, "label": "bool"},
    "sft": {"messages": _TURNS},
    "raw": {
        "topic": _TEXT,
        "partition": "int",
        "offset": "int",
        "id": _TEXT,
        "time": "float",
        "project": _TEXT,
        "key": _TEXT,
        "type": _TEXT,
        "erased": "bool",
        "data": "json",
    },
}


def write_jsonl(file: BinaryIO, rows: Iterable[dict[str, Any]]) -> None:
    """One row a line, in ASCII: no character of a text can end a line for any reader."""
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode() + b"\n")


def write_parquet(file: BinaryIO, rows: Iterable[dict[str, Any]], format: ExportFormat) -> None:
    """Columns of fixed types, whatever the rows say; an event's data is a JSON text."""
    import pyarrow
    import pyarrow.parquet

    types = {
        _TEXT: pyarrow.string(),
        _TURNS: pyarrow.list_(pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])),
        "bool": pyarrow.bool_(),
        "int": pyarrow.int64(),
        "float": pyarrow.float64(),
        "json": pyarrow.string(),
    }
    about = {} if format == "raw" else {name: "float" if name == "time" else _TEXT for name in ABOUT}
    columns = _COLUMNS[format] | about
    schema = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])
    remaining = iter(rows)
    with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(islice(remaining, _ROW_GROUP)):
            plain = [{name: _plain(row[name], kind) for name, kind in columns.items()} for row in group]
            writer.write_table(pyarrow.Table.from_pylist(plain, schema))


def _plain(value: Any, kind: str) -> Any:
    return json.dumps(value, separators=(",", ":")) if kind == "json" else value
