"""Rows from every kind of file, and what is wrong with a file said in one line."""

from __future__ import annotations

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from feedback.importers.record import RowRefused
from ops.errors import CommandError
from ops.row_files import rows_of

ROWS = [{"a": "one\u2028two\x00", "b": [{"c": 1}]}, {"a": "drei ß", "b": []}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(LINES)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(LINES))
    (tmp_path / "c.json").write_bytes(json.dumps(ROWS).encode())
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "d.parquet")
    return tmp_path


@pytest.mark.parametrize("name", ["a.jsonl", "b.jsonl.gz", "c.json", "d.parquet"])
def test_a_files_rows_are_what_was_written_whatever_its_format(folder, name):
    assert list(rows_of(str(folder / name))) == [(f"{name}:1", ROWS[0]), (f"{name}:2", ROWS[1])]


def test_a_folder_is_all_its_files_by_name_and_nothing_else(folder):
    (folder / "README.md").write_text("no rows")
    (folder / "sub").mkdir()
    (folder / "sub" / "e.jsonl").write_text('{"a": 1}\n')
    where = [row.where for row in rows_of(str(folder))]
    files = ["a.jsonl", "b.jsonl.gz", "c.json", "d.parquet"]
    assert where == [f"{name}:{number}" for name in files for number in (1, 2)] + ["sub/e.jsonl:1"]


def test_lines_that_cannot_be_read_are_rows_with_a_reason_and_blank_lines_are_none(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"a": 1}\n\n{"a": \xff}\n{"a": \n' + b"[" * 100_000 + b'\n{"a": 2}')
    rows = {row.where: row.value for row in rows_of(str(file))}
    assert (rows["a.jsonl:1"], rows["a.jsonl:6"]) == ({"a": 1}, {"a": 2})
    refused = {where: value.reason for where, value in rows.items() if isinstance(value, RowRefused)}
    assert refused == {
        "a.jsonl:3": "the line is not UTF-8",
        "a.jsonl:4": "the line is not JSON",
        "a.jsonl:5": "the line is not JSON",
    }


def test_a_damaged_file_gives_its_good_beginning_and_then_one_clear_line(tmp_path):
    file = tmp_path / "a.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"a": 1}\n' * 5)[:-8])  # without its checksum and length
    rows = rows_of(str(file))
    assert [next(rows).value for _ in range(5)] == [{"a": 1}] * 5
    with pytest.raises(CommandError, match=r"a\.jsonl\.gz' cannot be read to its end"):
        next(rows)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b'{"a": 1}', "a .json file is one list of rows; this is a dict"),
        ("a.json", b'{"a": 1}\n{"a": 2}\n', "name it .jsonl if it has one row a line"),
        ("a.parquet", b"no parquet", "is no good Parquet"),
        ("a.csv", b"a,b\n", "name it with its format: .jsonl, .jsonl.gz, .json, .parquet"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_name(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CommandError) as error:
        list(rows_of(str(tmp_path / name)))
    assert message in str(error.value)
    assert name in str(error.value)


def test_what_is_not_there_is_said_so_and_an_empty_folder_too(tmp_path):
    for source in ("/nowhere/a.jsonl", "data/a.jsonl", "nothing"):
        with pytest.raises(CommandError, match="there is no such file or folder"):
            list(rows_of(source))
    with pytest.raises(CommandError, match="the folder has no file"):
        list(rows_of(str(tmp_path)))


def test_a_name_with_an_owner_is_looked_for_on_the_hub_in_all_its_splits():
    asked = []

    def hub(name):
        asked.append(name)
        return {"train": iter(ROWS), "test": iter(ROWS[:1])}

    rows = list(rows_of("owner/set", hub))
    assert asked == ["owner/set"]
    assert [row.where for row in rows] == ["owner/set/train:1", "owner/set/train:2", "owner/set/test:1"]
    assert [row.value for row in rows] == [*ROWS, ROWS[0]]
