"""``plaudit label``, as an operator calls it, over a data folder with answers in its log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from label_world import World, annotator, completion
from typer.testing import CliRunner

from feedback.sqlite_log import SqliteLog
from ops.cli.label import app
from ops.errors import CommandError
from ops.settings import load_settings


def label(folder: Path, *arguments: str) -> str:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*arguments, "--data-dir", str(folder)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def told(folder: Path, *arguments: str):
    return json.loads(label(folder, *arguments, "--json"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    settings = load_settings(data_dir=tmp_path)
    log = SqliteLog(settings.log_path)
    log.append([completion(f"x{n}", question=f"q{n}") for n in range(3)])
    log.close()
    return tmp_path


def worked(folder: Path, *said: dict) -> None:
    """An annotator answers the tasks of the first stream."""
    settings = load_settings(data_dir=folder)
    w = World(folder, database=settings.database_path, log=settings.log_path)
    (stream,) = w.streams.list(["default"])
    for body in said:
        handed = w.task(stream)
        w.now += 4
        w.say(handed, **body)
    w.close()


def test_a_stream_is_made_filled_worked_on_looked_at_and_closed(folder: Path, tmp_path: Path):
    guide = tmp_path / "guide.txt"
    guide.write_text("Be fair.")
    made = told(folder, "streams", "create", "work", "--guideline", str(guide), "--overlap", "2")
    assert (made["items"], made["plan"]["guideline"], made["plan"]["overlap"]) == (3, "Be fair.", 2)
    worked(folder, {"type": "rating", "value": 1}, {"type": "skip", "reason": "unclear"})
    (row,) = told(folder, "streams", "list")
    assert (row["id"], row["figures"]["answered"], row["figures"]["rejection_rate"]) == (made["id"], 1, 0.5)
    (rater,) = told(folder, "raters", "--stream", "work")
    assert (rater["key_id"], rater["figures"]["seconds_median"]) == (annotator("ann").key_id, 4.0)
    first, second = told(folder, "tasks")
    assert [(task["outcome"], task["reason"]) for task in (first, second)] == [("answered", None), ("skipped", "unclear")]
    for arguments, shown in ((("streams", "list"), "3/100"), (("raters",), "50%"), (("tasks",), "unclear")):
        assert shown in label(folder, *arguments)
    (agreed,) = told(folder, "agreement")
    assert (agreed["judgements"], agreed["alpha"], agreed["consensus"][0]["label"]) == (1, None, "1")
    assert "alpha undefined; 1 judgements of 1 items" in label(folder, "agreement", "--stream", "work")
    assert told(folder, "streams", "draw", "work") == {"added": 0}
    assert told(folder, "streams", "close", made["id"])["closed"] is not None


def test_golden_items_come_from_a_file(folder: Path, tmp_path: Path):
    label(folder, "streams", "create", "test", "--source", "listed", "--test-items", "1", "--golden-rate", "0.1")
    items = tmp_path / "items.jsonl"
    items.write_text('{"completion_ids": ["x1"], "right": -1}\n\n{"completion_ids": ["x2"], "tests": "assert True"}\n')
    assert label(folder, "streams", "add", "test", str(items)) == "added 2 of 2 items\n"
    (row,) = told(folder, "streams", "list")
    assert (row["golden_items"], row["items"], row["missing_golden"]) == (1, 1, 0)


def test_code_in_answers_is_checked(folder: Path, tmp_path: Path):
    log = SqliteLog(load_settings(data_dir=folder).log_path)
    log.append([completion("code", question="q", text={"messages": (), "answer": "```python\nx = 1\n```"})])
    log.close()
    label(folder, "streams", "create", "work", "--source", "listed")
    items = tmp_path / "items.jsonl"
    items.write_text('{"completion_ids": ["code"], "tests": "assert x == 2"}')
    label(folder, "streams", "add", "work", str(items))
    (checked,) = told(folder, "check", "work")
    assert (checked["parses"], checked["outcome"], checked["detail"]) == (True, "failed", "AssertionError:")
    assert "AssertionError" in label(folder, "check", "work")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("streams", "create", "Work"), "'name'"),
        (("streams", "create", "work", "--kind", "thumb"), "'kind'"),
        (("streams", "create", "work", "--kind", "score"), "'metric'"),
        (("streams", "create", "work", "--source", "best"), "'source'"),
        (("streams", "create", "work", "--guideline", "/nowhere"), "/nowhere"),
        (("streams", "close", "nothing"), "plaudit label streams list"),
        (("tasks", "--stream", "nothing"), "plaudit label streams list"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_it(folder: Path, arguments: tuple[str, ...], said: str):
    with pytest.raises(CommandError, match=said):
        label(folder, *arguments)


def test_a_name_is_taken_once_and_items_must_be_answers_that_are_there(folder: Path, tmp_path: Path):
    label(folder, "streams", "create", "work", "--source", "listed")
    with pytest.raises(CommandError, match="already"):
        label(folder, "streams", "create", "work")
    items = tmp_path / "items.jsonl"
    for text, said in (('{"completion_ids": ["nothing"]}', "nothing"), ("{", "items.jsonl"), ('{"ids": []}', "completion_ids")):
        items.write_text(text)
        with pytest.raises(CommandError, match=said):
            label(folder, "streams", "add", "work", str(items))


def test_a_stream_of_scores_without_a_metric_is_told_the_field_the_value_and_the_fix(folder: Path):
    with pytest.raises(CommandError) as told:
        label(folder, "streams", "create", "rate", "--kind", "score")
    assert str(told.value) == ("'metric' is '': the kind 'score' needs it. Send what is scored, for example 'helpfulness'.")
