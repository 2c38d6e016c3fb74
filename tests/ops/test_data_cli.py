"""``plaudit import`` and ``plaudit export`` as a user calls them."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.cli.data import export, import_
from ops.errors import CommandError


def plaudit(*arguments: str, data_dir: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", *arguments, "--data-dir", str(data_dir)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"COLUMNS": "200", "HF_HUB_OFFLINE": "1"},
    )


def pairs(path: Path, count: int) -> str:
    rows = [
        {"chosen": f"\n\nHuman: Why {n}?\n\nAssistant: Yes.", "rejected": f"\n\nHuman: Why {n}?\n\nAssistant: No."}
        for n in range(count)
    ]
    path.write_bytes(gzip.compress(("".join(json.dumps(row) + "\n" for row in rows) + '{"chosen": 1}\n').encode()))
    return str(path)


def test_a_data_set_is_imported_once_and_comes_out_again(tmp_path):
    file = pairs(tmp_path / "hh.jsonl.gz", 6)
    mistyped = plaudit("import", "--format", "hh-rlhf", file, "--project", "shop", data_dir=tmp_path / "data")
    assert mistyped.returncode == 2
    assert "--project='shop': there is none" in mistyped.stderr
    assert plaudit("projects", "create", "shop", data_dir=tmp_path / "data").returncode == 0
    first = plaudit("import", "--format", "hh-rlhf", file, "--project", "shop", "--json", data_dir=tmp_path / "data")
    assert first.returncode == 0, first.stderr
    report = json.loads(first.stdout)
    assert {name: report[name] for name in ("rows", "imported", "already", "dropped", "reasons", "dropped_rows")} == {
        "rows": 7,
        "imported": 6,
        "already": 0,
        "dropped": 1,
        "reasons": {"column 'chosen': Input should be a valid string": 1},
        "dropped_rows": [
            {"row": 7, "where": "hh.jsonl.gz:7", "reason": "column 'chosen': Input should be a valid string", "detail": ""}
        ],
    }
    again = plaudit("import", "--format", "hh-rlhf", file, "--project", "shop", "--limit", "4", data_dir=tmp_path / "data")
    assert again.returncode == 0, again.stderr
    assert [line.split() for line in again.stdout.splitlines() if "already" in line] == [["│", "already", "│", "4", "│"]]
    out = tmp_path / "votes.parquet"
    options = ["--format", "preference", "--out", str(out), "--project", "shop", "--parquet", "--json"]
    exported = plaudit("export", *options, data_dir=tmp_path / "data")
    assert exported.returncode == 0, exported.stderr
    assert (json.loads(exported.stdout)["rows"], out.read_bytes()[:4]) == (6, b"PAR1")


def test_what_cannot_be_imported_is_one_line_and_status_2(tmp_path):
    file = pairs(tmp_path / "hh.jsonl.gz", 2)
    wrong = plaudit("import", "--format", "arena", file, "--json", data_dir=tmp_path / "data")
    assert (wrong.returncode, json.loads(wrong.stdout)["dropped"]) == (2, 3)
    assert wrong.stderr == f"plaudit: FILE={file!r}: none of its 3 rows could be used; is it really --format arena?\n"
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(CommandError, match="there are no rows in it"):
        import_(str(tmp_path / "empty.jsonl"), "arena", data_dir=tmp_path / "data")


def test_without_a_network_a_hub_id_is_refused_in_one_line(tmp_path):
    refused = plaudit("import", "--format", "arena", "nobody/nothing", data_dir=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith(
        "plaudit: FILE='nobody/nothing': there is no such file, and the hub does not give it"
    )
    assert "Traceback" not in refused.stderr


def test_a_name_that_does_not_fit_its_format_is_refused_before_anything_is_written(tmp_path):
    cases = (
        ("a.parquet", False, "add --parquet"),
        ("a.jsonl", True, "name it .parquet"),
        ("no/a.jsonl", False, "name a file in a folder that is there"),
    )
    for out, parquet, fix in cases:
        with pytest.raises(CommandError, match=f"--out='.*{out}': {fix}"):
            export("kto", tmp_path / out, parquet, data_dir=tmp_path / "data")
    assert not (tmp_path / "data").exists()
