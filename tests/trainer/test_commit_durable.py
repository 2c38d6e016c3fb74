"""What a power cut would leave of a commit: what has been put in its place is on the disk, and so is its name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from commit_once import commit


class Disk:
    """What the kernel was asked to keep; the calls are made all the same. Turns are told among the living alone: not counted."""

    def __init__(self, folder: Path) -> None:
        self.moved: list[str] = []
        self.not_kept: list[str] = []
        """Files that were moved into their place before they were kept."""
        self.names_not_kept: set[Path] = set()
        """Folders of which an entry is new since they were kept."""
        self._folder = folder
        self._kept: dict[int, tuple[int, int]] = {}

    def keeping(self, fsync: Callable[[int], None]) -> Callable[[int], None]:
        def keep(descriptor: int) -> None:
            fsync(descriptor)
            stat = os.fstat(descriptor)
            self._kept[stat.st_ino] = (stat.st_mtime_ns, stat.st_size)
            self.names_not_kept.discard(Path(os.readlink(f"/proc/self/fd/{descriptor}")))

        return keep

    def moving(self, rename: Callable[..., None]) -> Callable[..., None]:
        def move(source: str | Path, target: str | Path) -> None:
            if not {"turns", ".turns"} & {*Path(target).parts}:
                self._look(Path(source), Path(target))
            rename(source, target)

        return move

    def _look(self, source: Path, target: Path) -> None:
        self.moved.append(target.relative_to(self._folder).as_posix())
        self.names_not_kept.add(target.parent)
        for file in [source, *source.rglob("*")]:
            stat = file.stat()
            if file.is_file() and self._kept.get(stat.st_ino) != (stat.st_mtime_ns, stat.st_size):
                self.not_kept.append(f"{target.name}: {file.name}")


def test_all_that_a_commit_moves_into_its_place_is_kept_before_and_its_name_afterwards(tmp_path, monkeypatch):
    disk = Disk(tmp_path)
    monkeypatch.setattr(os, "fsync", disk.keeping(os.fsync))
    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, disk.moving(getattr(os, name)))
    adapter = commit(tmp_path, 1)
    places = " ".join(disk.moved)
    for place in ("trainer/progress", "trainer/commits/000001", "trainer/current.json", f"adapters/{adapter}"):
        assert place in places
    assert (disk.not_kept, disk.names_not_kept) == ([], set())
