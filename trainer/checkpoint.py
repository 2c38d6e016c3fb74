"""The trainer's memory between cycles: one commit a cycle, all of it or nothing.

``commits/000007/`` holds what the next cycle starts from, ``current.json`` names the commit that counts. A commit is prepared
under a temporary name, made durable, renamed; then its adapter is published and last the pointer moves. Killed before the
rename, the cycle has not been; killed after it, the next start publishes (once) and moves the pointer: `Checkpoint.open`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import Field

from feedback.events import Frozen
from feedback.ids import uuid7
from ops.registry import Registry
from trainer.publish import Publication, publish
from trainer.record import CycleRecord

KEPT = 2
REWARD, JUDGE, ADAPTER = "reward", "judge", "adapter"
"""Folders of a commit: the two models of what people like, and the adapter that the cycle made."""

_SUMS = "files.json"
_STATE = "state.json"
_RECORD = "record.json"
_PUBLICATION = "publication.json"


class CheckpointError(Exception):
    """The trainer's folder cannot be used; the message names the file and says what to do."""


class TrainerBusy(CheckpointError):
    """Another trainer holds the project's lease."""


class State(Frozen):
    """What counts as learnt. ``offsets`` is the watermark: votes at or beyond it are new."""

    cycle: int = 0
    offsets: dict[str, dict[int, int]] = Field(default_factory=dict)
    votes: int = 0
    divided_by: str = ""
    """How votes were divided between reward model and judge: once it changes, neither may go on from what it learnt."""
    people: tuple[str, ...] = ()
    """Hashes of all whose words went into what is kept, in this cycle or an earlier one; sorted."""


@dataclass(frozen=True)
class Loaded:
    """The commit that counts. ``digest`` identifies it; ``reward`` and ``judge`` are folders, None before the first."""

    state: State
    digest: str
    adapter: str | None
    reward: Path | None
    judge: Path | None


class Checkpoint:
    """A project's trainer folder. ``fault`` is called with a name before every step that changes the disk."""

    def __init__(self, folder: Path, registry: Registry, *, fault: Callable[[str], None] = lambda step: None) -> None:
        self.folder = folder
        self._registry, self._fault = registry, fault

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Held for as long as a trainer runs; the kernel frees it when the process dies. Raises `TrainerBusy`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "lease")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise TrainerBusy(f"{self.folder}: another trainer is at work on this project; stop it first") from error
        try:
            yield
        finally:
            lock.release()

    def open(self, now: float) -> Loaded:
        """The commit that counts, after finishing what a killed trainer had prepared. Needs the lease.

        Raises `CheckpointError` when a file is not what was committed.
        """
        self._sweep()
        pointer = self._pointer()
        cycle = pointer["cycle"] if pointer else 0
        prepared = self._commit(cycle + 1)
        if prepared.is_dir():
            self._finish(cycle + 1, now)
            return self.open(now)
        if pointer is None:
            return Loaded(State(), "", None, None, None)
        folder = self._commit(cycle)
        digest = verify(folder)
        if digest != pointer["digest"]:
            raise CheckpointError(f"{folder / _SUMS}: is not the commit that {self._pointer_path} names; restore one of the two")
        self._journal(cycle, pointer["adapter"])
        state = State.model_validate_json((folder / _STATE).read_text())
        reward, judge = (folder / name if (folder / name).is_dir() else None for name in (REWARD, JUDGE))
        return Loaded(state, digest, pointer["adapter"], reward, judge)

    def commit(
        self, state: State, record: CycleRecord, publication: Publication | None, fill: Callable[[Path], None], now: float
    ) -> str | None:
        """Make ``state`` count and publish the adapter; its id. ``fill`` writes the model folders into the folder it is given.

        state.cycle has to be one more than that of the commit that counts.
        """
        draft = self.folder / f".draft-{uuid7()}"
        self._fault("draft")
        draft.mkdir(parents=True)
        fill(draft)
        self._fault("filled")
        texts = {_STATE: state.model_dump_json(), _RECORD: record.model_dump_json()}
        if publication is not None:
            texts[_PUBLICATION] = publication.model_dump_json()
        for name, text in texts.items():
            (draft / name).write_text(text)
            self._fault(f"wrote {name}")
        sums = {path.relative_to(draft).as_posix(): _sha256(path) for path in _files(draft)}
        (draft / _SUMS).write_text(json.dumps(sums, sort_keys=True))
        self._fault("summed")
        for path in (*_files(draft), *(p for p in sorted(draft.rglob("*")) if p.is_dir()), draft):
            _sync(path)
        self._fault("durable")
        target = self._commit(state.cycle)
        target.parent.mkdir(exist_ok=True)
        os.rename(draft, target)
        _sync(target.parent)
        self._fault("prepared")
        return self._finish(state.cycle, now)

    def _finish(self, cycle: int, now: float) -> str | None:
        """From prepared to current: publish, point, tell, tidy up. Every step may have been done before."""
        folder = self._commit(cycle)
        digest = verify(folder)
        adapter = None
        if (folder / _PUBLICATION).exists():
            publication = Publication.model_validate_json((folder / _PUBLICATION).read_text())
            people = State.model_validate_json((folder / _STATE).read_text()).people
            adapter = publish(self._registry, publication, folder / ADAPTER, people, now).id
            self._fault("published")
        pointer = {"cycle": cycle, "digest": digest, "adapter": adapter}
        partial = self._pointer_path.with_suffix(".partial")
        partial.write_text(json.dumps(pointer))
        _sync(partial)
        self._fault("pointer written")
        os.replace(partial, self._pointer_path)
        _sync(self.folder)
        self._fault("committed")
        self._journal(cycle, adapter)
        self._fault("told")
        for old in sorted((self.folder / "commits").iterdir())[:-KEPT]:
            shutil.rmtree(old)
        self._fault("tidied")
        return adapter

    def _journal(self, cycle: int, adapter: str | None) -> None:
        """Append the cycle's record to ``cycles.jsonl``, unless it is there."""
        record = CycleRecord.model_validate_json((self._commit(cycle) / _RECORD).read_text())
        if any(line["cycle"] == cycle and line["outcome"] != "diverged" for line in journal(self.folder)):
            return
        self.tell(record.model_copy(update={"adapter": adapter}))

    def tell(self, record: CycleRecord) -> None:
        """Append a record to ``cycles.jsonl``, which is for people and dashboards; nothing is learnt from it."""
        lines = [json.dumps(line) for line in journal(self.folder)]
        partial = self.folder / ".cycles.jsonl.partial"
        partial.write_text("".join(f"{line}\n" for line in [*lines, record.model_dump_json()]))
        os.replace(partial, self.folder / "cycles.jsonl")

    def _sweep(self) -> None:
        for draft in self.folder.glob(".draft-*"):
            shutil.rmtree(draft)

    def _commit(self, cycle: int) -> Path:
        return self.folder / "commits" / f"{cycle:06d}"

    @property
    def _pointer_path(self) -> Path:
        return self.folder / "current.json"

    def _pointer(self) -> dict[str, Any] | None:
        try:
            pointer: dict[str, Any] = json.loads(self._pointer_path.read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise CheckpointError(f"{self._pointer_path}: is not JSON ({error}); restore it or remove the folder") from error
        return pointer


def journal(folder: Path) -> list[dict[str, Any]]:
    """The records in ``cycles.jsonl`` of a trainer's folder, oldest first."""
    path = folder / "cycles.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def verify(commit: Path) -> str:
    """The commit's digest: SHA-256 of the list of its files' SHA-256s. Raises `CheckpointError` unless every file is on it."""
    try:
        text = (commit / _SUMS).read_text()
        sums = json.loads(text)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{commit / _SUMS}: cannot be read ({error}); restore the commit or remove the folder") from error
    found = {path.relative_to(commit).as_posix(): path for path in _files(commit) if path != commit / _SUMS}
    for name in sorted(set(sums) | set(found)):
        if name not in found or name not in sums or _sha256(found[name]) != sums[name]:
            raise CheckpointError(f"{commit / name}: is not the file that was committed; restore the commit or remove the folder")
    return hashlib.sha256(text.encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sync(path: Path) -> None:
    """fsync a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
