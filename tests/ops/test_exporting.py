"""Exports of a real log: whole files or none, the same bytes for the same log, every character as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from feedback.events import (
    CompletionCreated,
    CompletionText,
    Correction,
    Event,
    Exposure,
    FeedbackSet,
    Message,
    Preference,
    Rating,
    Target,
)
from feedback.log import Record
from feedback.sqlite_log import SqliteLog
from ops.erase import erase_user, hash_of
from ops.errors import CommandError
from ops.exporting import export, raw_rows
from ops.open_log import open_log_of
from ops.settings import load_settings
from ops.whole_files import whole_file

ODD = 'a\u2028b\u2029c\x00d"e\\f\ng\r\nh\x85 =1+1 \U0001f600 </script>'


def answered(name: str, answer: str, *, project: str = "p", user: str = "u", **fields: Any) -> Event:
    data = CompletionCreated(
        completion_id=name,
        conversation="c",
        user=user,
        text=CompletionText(messages=(Message(role="user", content="Why?" + ODD),), answer=answer),
        exposure=Exposure(completion_id=name, adapter="base"),
        **fields,
    )
    return Event(id=f"e-{name}", time=1.5, project=project, key=name, data=data)


def said(name: str, judgement: Any, *targets: str, project: str = "p", rater: str = "r") -> Event:
    data = FeedbackSet(feedback_id=name, target=Target(completion_ids=targets), rater=rater, judgement=judgement)
    return Event(id=name, time=2.5, project=project, key=targets[0], data=data)


@pytest.fixture
def log(tmp_path: Path):
    log = SqliteLog(tmp_path / "log.db", partitions=3)
    log.append(
        [
            answered("x1", "A" + ODD),
            answered("x2", "B"),
            answered("x3", "C"),
            said("f1", Preference(value="b", comment=ODD), "x1", "x2"),
            said("f2", Rating(value=-1), "x3", rater="r2"),
            said("f3", Correction(text="Better." + ODD), "x3"),
            answered("y1", "other", project="q"),
            said("g1", Rating(value=1), "y1", project="q"),
        ]
    )
    yield log
    log.close()


def write(log: SqliteLog, path: Path, format: str = "preference", *, project: str = "p") -> dict[str, Any]:
    return export(log, format=format, project=project, path=path, parquet=path.suffix == ".parquet")  # type: ignore[arg-type]


def lines(path: Path) -> list[dict[str, Any]]:
    content = path.read_bytes()
    assert content.endswith(b"\n")
    assert content.isascii()
    return [json.loads(line) for line in content.decode().splitlines()]


def test_every_character_comes_back_and_no_line_is_broken(log, tmp_path):
    write(log, tmp_path / "p.jsonl")
    correction, preference = sorted(lines(tmp_path / "p.jsonl"), key=lambda row: row["kind"])
    assert preference["prompt"] == [{"role": "user", "content": "Why?" + ODD}]
    assert preference["chosen"] == [{"role": "assistant", "content": "B"}]
    assert preference["rejected"] == [{"role": "assistant", "content": "A" + ODD}]
    assert correction["chosen"] == [{"role": "assistant", "content": "Better." + ODD}]


@pytest.mark.parametrize("format", ["preference", "kto", "sft"])
def test_parquet_and_json_lines_say_the_same(log, tmp_path, format):
    report = write(log, tmp_path / "p.jsonl", format)
    assert write(log, tmp_path / "p.parquet", format) == report | {"file": str(tmp_path / "p.parquet")}
    rows = lines(tmp_path / "p.jsonl")
    assert pyarrow.parquet.read_table(tmp_path / "p.parquet").to_pylist() == rows
    assert len(rows) == report["rows"] == sum(report["splits"].values())


def test_a_report_counts_rows_votes_splits_and_what_is_left_out(log, tmp_path):
    report = write(log, tmp_path / "p.jsonl")
    assert {name: report[name] for name in ("format", "project", "rows", "votes", "left_out")} == {
        "format": "preference",
        "project": "p",
        "rows": 2,
        "votes": 2,
        "left_out": {"says_nothing": 1},
    }


@pytest.mark.parametrize("name", ["p.jsonl", "p.parquet"])
@pytest.mark.parametrize("format", ["preference", "raw"])
def test_the_same_log_gives_the_same_bytes(log, tmp_path, name, format):
    write(log, tmp_path / name, format)
    before = (tmp_path / name).read_bytes()
    write(log, tmp_path / name, format)
    assert (tmp_path / name).read_bytes() == before


def test_new_votes_leave_the_rows_before_them_as_they_were(log, tmp_path):
    write(log, tmp_path / "p.jsonl")
    before = lines(tmp_path / "p.jsonl")
    log.append(
        [said(f"h{n}", Preference(value="a"), "x1", "x3", rater=f"r{n}").model_copy(update={"time": 9.0}) for n in range(30)]
    )
    write(log, tmp_path / "p.jsonl")
    assert lines(tmp_path / "p.jsonl")[: len(before)] == before


def test_raw_is_every_event_of_the_project_in_log_order_with_its_text(log, tmp_path):
    report = write(log, tmp_path / "r.jsonl", "raw")
    rows = lines(tmp_path / "r.jsonl")
    assert {row["id"] for row in rows} == {"e-x1", "e-x2", "e-x3", "f1", "f2", "f3"}
    assert [(row["topic"], row["partition"], row["offset"]) for row in rows] == sorted(
        (row["topic"], row["partition"], row["offset"]) for row in rows
    )
    assert next(row for row in rows if row["id"] == "f1")["data"]["judgement"]["comment"] == ODD
    assert next(row for row in rows if row["id"] == "e-x1")["data"]["text"]["answer"] == "A" + ODD
    assert (report["rows"], report["types"]) == (6, {"completion.created": 3, "feedback.set": 3})
    write(log, tmp_path / "r.parquet", "raw")
    tables = pyarrow.parquet.read_table(tmp_path / "r.parquet").to_pylist()
    assert [row | {"data": json.loads(row["data"])} for row in tables] == rows


def test_raw_keeps_an_event_whose_text_was_erased_without_what_was_sealed(log, tmp_path):
    gone = answered("x9", "", sealed="key-7 ciphertext")
    log.append([gone])
    report = write(log, tmp_path / "r.jsonl", "raw")
    (row,) = [row for row in lines(tmp_path / "r.jsonl") if row["erased"]]
    assert (row["id"], row["data"]["text"]["answer"], report["left_out"]) == ("e-x9", "", {"erased": 1})
    assert b"ciphertext" not in (tmp_path / "r.jsonl").read_bytes()


class _Twice:
    """A log that has stored each event of a SQLite log twice, as Kafka may."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log

    def end(self, topic: Any, partition: int) -> int:
        return 2 * self._log.end(topic, partition)

    def read(self, topic: Any, partition: int, offset: int, limit: int) -> list[Record]:
        (record,) = self._log.read(topic, partition, offset // 2, 1)
        return [Record(record.position._replace(offset=offset), record.event)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def test_an_event_that_the_log_has_twice_is_exported_once(log):
    rows = list(raw_rows(_Twice(log), "p"))  # type: ignore[arg-type]
    assert sorted(row["id"] for row in rows) == ["e-x1", "e-x2", "e-x3", "f1", "f2", "f3"]


@pytest.mark.parametrize("format", ["preference", "raw"])
def test_nothing_to_export_is_said_and_leaves_no_file(log, tmp_path, format):
    with pytest.raises(CommandError, match="there is nothing to export"):
        write(log, tmp_path / "p.jsonl", format, project="nobody")
    assert not list(tmp_path.glob("*p.jsonl*"))


def test_a_writer_that_fails_leaves_the_file_as_it_was(tmp_path):
    def half() -> None:
        with whole_file(tmp_path / "p.jsonl") as file:
            file.write(b"half")
            raise RuntimeError("in the middle")

    (tmp_path / "p.jsonl").write_text("before")
    with pytest.raises(RuntimeError, match="in the middle"):
        half()
    assert [path.name for path in tmp_path.iterdir()] == ["p.jsonl"]
    assert (tmp_path / "p.jsonl").read_text() == "before"


def test_a_place_that_cannot_be_written_is_named(log, tmp_path):
    with pytest.raises(CommandError, match=r"--out='.*p\.jsonl' cannot be written"):
        write(log, tmp_path / "missing" / "p.jsonl")


def test_what_an_erased_user_wrote_and_said_is_in_no_export_and_what_others_said_of_it_is_counted(tmp_path):
    settings = load_settings(data_dir=tmp_path / "data")
    ann = hash_of(settings, "default", "ann")
    asked = {"project": "default", "user": ann}
    events = [
        answered("x1", "CANARY 1", **asked),
        answered("x2", "CANARY 2", **asked),
        answered("y1", "A", project="default", user="bob"),
        answered("y2", "B", project="default", user="bob"),
        said("f1", Preference(value="a"), "x1", "x2", project="default", rater="bob"),
        said("f2", Preference(value="a"), "y1", "y2", project="default", rater="bob"),
        said("f3", Correction(text="CANARY 3"), "y1", project="default", rater=ann),
    ]
    with open_log_of(settings) as log:
        log.append(events)
    erase_user(settings, "default", ann)
    with open_log_of(settings) as log:
        report = write(log, tmp_path / "p.jsonl", project="default")
        raw = write(log, tmp_path / "r.jsonl", "raw", project="default")
    assert [row["feedback_id"] for row in lines(tmp_path / "p.jsonl")] == ["f2"]
    assert (report["rows"], report["left_out"]) == (1, {"erased": 1})
    assert (raw["rows"], raw["left_out"]) == (8, {"erased": 3})  # the eighth says that ann is erased
    assert b"CANARY" not in (tmp_path / "p.jsonl").read_bytes() + (tmp_path / "r.jsonl").read_bytes()
