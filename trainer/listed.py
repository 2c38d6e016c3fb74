"""Folders with a list of their files' sums, so that what is read again is what was written, or is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ops.whole_files import sync

SUMS = "files.json"


class CheckpointError(Exception):
    """The trainer's folder cannot be used; the message names the file and says what to do."""


def seal(folder: Path) -> str:
    """List the folder's files and make all of it durable; its digest. Nothing may be written into it any more."""
    sums = {path.relative_to(folder).as_posix(): _sha256(path) for path in _files(folder)}
    text = json.dumps(sums, sort_keys=True)
    (folder / SUMS).write_text(text)
    for path in (*_files(folder), *(p for p in sorted(folder.rglob("*")) if p.is_dir()), folder):
        sync(path)
    return hashlib.sha256(text.encode()).hexdigest()


def verify(folder: Path) -> str:
    """The folder's digest: SHA-256 of the list of its files' SHA-256s. Raises `CheckpointError` unless every file is on it."""
    try:
        text = (folder / SUMS).read_text()
        sums = json.loads(text)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / SUMS}: cannot be read ({error}); restore the commit or remove the folder") from error
    found = {path.relative_to(folder).as_posix(): path for path in _files(folder) if path != folder / SUMS}
    for name in sorted(set(sums) | set(found)):
        if name not in found or name not in sums or _sha256(found[name]) != sums[name]:
            raise CheckpointError(f"{folder / name}: is not the file that was committed; restore the commit or remove the folder")
    return hashlib.sha256(text.encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
