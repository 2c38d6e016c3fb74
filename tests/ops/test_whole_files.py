"""What is written whole is on the disk before anybody can find it: in which order the kernel is asked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ops.whole_files import sync, whole_file, write_synced


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """What was synced or renamed, by name, and how many bytes it had then; the calls are made all the same."""
    told: list[tuple[str, str, int]] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        told.append(("fsync", "folder" if path.is_dir() else path.suffix, path.stat().st_size if path.is_file() else 0))
        fsync(descriptor)

    def replaced(draft: str, path: Path) -> None:
        told.append(("rename", path.name, path.stat().st_size if path.exists() else 0))
        replace(draft, path)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    return told


def test_a_whole_file_is_synced_then_renamed_then_its_folder_synced(tmp_path: Path, asked: list[tuple[str, str, int]]):
    with whole_file(tmp_path / "figures.json") as file:
        file.write(b"12345")
    assert asked == [("fsync", ".partial", 5), ("rename", "figures.json", 0), ("fsync", "folder", 0)]
    assert (tmp_path / "figures.json").read_bytes() == b"12345"


def test_a_file_is_synced_with_all_its_bytes(tmp_path: Path, asked: list[tuple[str, str, int]]):
    write_synced(tmp_path / "weights.bin", b"123")
    sync(tmp_path)
    assert asked == [("fsync", ".bin", 3), ("fsync", "folder", 0)]


def test_what_fails_while_it_is_written_leaves_the_old_file_and_no_draft(tmp_path: Path):
    (tmp_path / "figures.json").write_bytes(b"old")

    def write() -> None:
        with whole_file(tmp_path / "figures.json") as file:
            file.write(b"new")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"figures.json": b"old"}
