"""The faults under SQLite are real ones: what they take away is what a disk would."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

POWER_CUT = """
import os, sqlite3, sys
from ops.chaos.sqlite_faults import Faults
path, synchronous = sys.argv[1:]
faults = Faults("power cut", 10_000)
connection = sqlite3.connect(path, isolation_level=None)
connection.execute("PRAGMA journal_mode=WAL")
connection.execute(f"PRAGMA synchronous={synchronous}")
connection.execute("CREATE TABLE t (n)")
connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
connection.execute("INSERT INTO t VALUES (1)")
faults.at = faults.steps + 1
connection.execute("INSERT INTO t VALUES (2)")
"""


@pytest.mark.parametrize(("synchronous", "rows"), [("FULL", [(1,)]), ("OFF", [])])
def test_a_power_cut_takes_what_was_not_synced_and_nothing_else(tmp_path: Path, synchronous: str, rows: list[tuple[int]]):
    path = tmp_path / "t.db"
    done = subprocess.run([sys.executable, "-c", POWER_CUT, str(path), synchronous], timeout=60)
    assert done.returncode == -9
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS t (n)")  # without any sync, even the table is gone
        assert connection.execute("SELECT n FROM t").fetchall() == rows
    connection.close()
