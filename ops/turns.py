"""Whose turn it is to write in a folder, on a volume that several machines share too: numbered folders, the highest counts.

Who takes a turn makes the folder of a higher number than all, which only one can (a rename is atomic, over NFS as well), and then
deletes those of earlier turns. What is to stay is written in the own turn's folder and lands by one rename out of it: once that
folder is gone the rename fails, however long its process had been stopped in between. So neither a lock nor a clock decides
what is written; those only decide when a turn may be taken (see `ops.lease`).
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from feedback.ids import uuid7
from ops.whole_files import sync

_DIGITS = 9
_GONE, _DRAFT = ".gone-", ".draft-"
_NUMBER = "turn"
_TRIES, _PAUSE_S = 50, 0.02


class TurnLost(Exception):
    """Another has taken the turn since: nothing that this process made in its own may count."""


def name_of(number: int) -> str:
    return f"{number:0{_DIGITS}d}"


def latest(folder: Path) -> int:
    """The number of the last turn that was taken; 0 when there was none."""
    return max(_numbers(folder), default=0)


def take(folder: Path, number: int, sign: Callable[[Path], None] = lambda draft: None) -> Path:
    """The folder of turn ``number``; those of all earlier turns are gone once this returns. ``sign`` may write into it before.

    Raises `TurnLost` if that turn or a later one was taken by somebody else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own, draft = folder / name_of(number), folder / f"{_DRAFT}{uuid7()}"
    if latest(folder) >= number:
        raise TurnLost(f"{own}: turn {latest(folder)} has been taken")
    draft.mkdir()
    (draft / _NUMBER).write_text(f"{number}\n")  # a folder with something in it is replaced by no other
    sign(draft)
    try:
        os.rename(draft, own)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise
        shutil.rmtree(draft, ignore_errors=True)
        raise TurnLost(f"{own}: somebody else was quicker") from error
    for earlier in _numbers(folder):
        if earlier < number:
            _end(folder / name_of(earlier))
    for prefix in (_GONE, _DRAFT):  # left by one who was killed here, or of one who will be too late
        for left_over in folder.glob(f"{prefix}*"):
            _delete(left_over)
    if latest(folder) > number:  # who takes a later turn either finds ours, or we find theirs
        raise TurnLost(f"{own}: turn {latest(folder)} has been taken")
    sync(folder)
    return own


@contextmanager
def within(own: Path) -> Iterator[None]:
    """Raises `TurnLost` for what fails inside because the turn's folder is gone."""
    try:
        yield
    except OSError as error:
        check(own, error)
        raise


def check(own: Path, cause: BaseException | None = None) -> None:
    """Raises `TurnLost` if the turn is over: to end soon what could not be kept. What lands is guarded by its rename alone."""
    if not own.is_dir():
        raise TurnLost(f"{own}: another process has taken over since") from cause


def land(own: Path, draft: Path, target: Path) -> None:
    """Move a file or folder of the own turn to where it counts, durably; a file may replace one. Raises `TurnLost`."""
    with within(own):
        os.replace(draft, target)
    sync(target.parent)


def _numbers(folder: Path) -> list[int]:
    try:
        return [int(name) for name in os.listdir(folder) if len(name) == _DIGITS and name.isdecimal()]
    except FileNotFoundError:
        return []


def _end(turn: Path) -> None:
    gone = turn.with_name(f"{_GONE}{uuid7()}")
    with suppress(FileNotFoundError):
        os.rename(turn, gone)
        _delete(gone)


def _delete(gone: Path) -> None:
    """Also what its process still adds: on NFS a folder that it knows stays writable under its new name until it is deleted."""
    for _ in range(_TRIES):
        try:
            shutil.rmtree(gone)
            return
        except FileNotFoundError:
            if not gone.exists():
                return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EBUSY):
                raise
            if all(name.startswith(".nfs") for name in os.listdir(gone)):  # deleted, but open on this machine
                return
        time.sleep(_PAUSE_S)
    raise OSError(errno.ENOTEMPTY, "somebody goes on writing in it", str(gone))
