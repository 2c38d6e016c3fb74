"""The trainer's memory between cycles: one commit a cycle, all of it or nothing.

``commits/000007/`` holds what the next cycle starts from, ``current.json`` names the commit that counts. A commit is prepared
in the folder of the trainer's turn (`ops.turns`), made durable, renamed; then its adapter is published and last the pointer
moves. Killed before the rename, the cycle has not been; killed after it, the next start publishes (once) and moves the
pointer: `Checkpoint.open`. Every step lands by a rename out of the turn's folder, so that a trainer which was stopped while
another took over changes nothing when it goes on.

No optimizer is in a commit: a cycle begins with new ones, and every random number comes of the seed, the cycle's number and
the stage's name. Those of a cycle under way are in its `trainer.progress`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field
from safetensors import SafetensorError

from feedback.events import Frozen
from feedback.ids import uuid7
from ops import lease, turns
from ops.registry import Registry
from ops.whole_files import write_synced
from trainer.listed import SUMS, CheckpointError, seal, verify
from trainer.progress import Progress
from trainer.publish import Publication, publish
from trainer.record import UNCOMMITTED, CycleRecord
from trainer.spread import Spread

__all__ = ["Checkpoint", "CheckpointError", "LeaseLost", "Loaded", "State", "TrainerBusy", "journal"]

KEPT = 2
REWARD, JUDGE, ADAPTER = "reward", "judge", "adapter"
"""Folders of a commit: the two models of what people like, and the adapter that the cycle made."""

_STATE = "state.json"
_RECORD = "record.json"
_PUBLICATION = "publication.json"
_DRAFT = ".draft-"


class TrainerBusy(CheckpointError):
    """Another trainer holds the project's lease."""


class LeaseLost(CheckpointError):
    """Another trainer has taken over since: this one was stopped, or cut off from the volume, for longer than a lease."""


class State(Frozen):
    """What counts as learnt. ``offsets`` is the watermark: votes at or beyond it are new."""

    cycle: int = 0
    offsets: dict[str, dict[int, int]] = Field(default_factory=dict)
    votes: int = 0
    divided_by: str = ""
    """How votes were divided between reward model and judge: once it changes, neither may go on from what it learnt."""
    people: tuple[str, ...] = ()
    """Hashes of all whose words went into what is kept, in this cycle or an earlier one; sorted."""
    champion: str = ""
    """Whose weights the cycle started from."""
    held_out: dict[str, dict[str, Spread]] = Field(default_factory=dict)
    """By model and kind of judgement: how well it foretold those whom it did not learn from (see `trainer.drift`)."""


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

    def __init__(
        self,
        folder: Path,
        registry: Registry,
        *,
        project: str = "default",
        fault: Callable[[str], None] = lambda step: None,
        lease_s: float = lease.LEASE_S,
        beat_s: float = lease.BEAT_S,
    ) -> None:
        self.folder = folder
        self._registry, self._project, self._fault = registry, project, fault
        self._times = {"lease_s": lease_s, "beat_s": beat_s}
        self._turns: tuple[Path, Path] | None = None

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Held for as long as a trainer runs, for the project's place in the registry and for this folder (see `ops.lease`).

        Raises `TrainerBusy`, and `LeaseLost` for what fails inside because another has taken over.
        """
        own = self.folder / "turns"
        try:
            with lease.held(self._registry.turns(self._project), turns.latest(own) + 1, **self._times) as place:
                turn = turns.take(own, int(place.name))
                with turns.within(turn):
                    self._turns = (place, turn)
                    yield
        except lease.LeaseHeld as error:
            raise TrainerBusy(f"{self.folder}: another trainer is at work on this project ({error}); stop it first") from error
        except turns.TurnLost as error:
            raise LeaseLost(f"{self.folder}: another trainer has taken over from this one ({error})") from error
        finally:
            self._turns = None

    def check(self) -> None:
        """Raises `LeaseLost` once the lease is: to end work soon that could not be kept. Nothing relies on it."""
        try:
            for turn in self._turns or ():
                turns.check(turn)
        except turns.TurnLost as error:
            raise LeaseLost(f"{self.folder}: another trainer has taken over from this one ({error})") from error

    @property
    def progress(self) -> Progress:
        """Of the cycle that is under way. Needs the lease."""
        return Progress(self.folder / "progress", self._turn, self._fault)

    def open(self, now: float) -> Loaded:
        """The commit that counts, after finishing what a killed trainer had prepared. Needs the lease.

        Raises `CheckpointError` when a file is not what was committed.
        """
        pointer = self._pointer()
        cycle = pointer["cycle"] if pointer else 0
        prepared = self._commit(cycle + 1)
        if prepared.is_dir():
            with self._writing():
                self._finish(cycle + 1, now)
            return self.open(now)
        if pointer is None:
            return Loaded(State(), "", None, None, None)
        folder = self._commit(cycle)
        digest = verify(folder)
        if digest != pointer["digest"]:
            raise CheckpointError(f"{folder / SUMS}: is not the commit that {self._pointer_path} names; restore one of the two")
        with self._writing():
            self._journal(cycle, pointer["adapter"])
            if (kept := self.progress.found()) is not None and kept.point.cycle <= cycle:
                self.progress.drop()
        state = State.model_validate_json((folder / _STATE).read_text())
        reward, judge = (folder / name if (folder / name).is_dir() else None for name in (REWARD, JUDGE))
        return Loaded(state, digest, pointer["adapter"], reward, judge)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Raises `CheckpointError` for what the disk does not take."""
        try:
            yield
        except (OSError, SafetensorError) as error:
            self.check()
            where = getattr(error, "filename", None) or self.folder
            raise CheckpointError(f"{where}: cannot be written ({error}); make room, then start again") from error

    def commit(
        self, state: State, record: CycleRecord, publication: Publication | None, fill: Callable[[Path], None], now: float
    ) -> str | None:
        """Make ``state`` count and publish the adapter; its id. ``fill`` writes the model folders into the folder it is given.

        state.cycle has to be one more than that of the commit that counts. Raises `CheckpointError` when the disk does
        not take it, or the lease is lost: then either nothing of it counts, or the next `open` finishes it.
        """
        with self._writing():
            self._prepare(state, record, publication, fill)
            return self._finish(state.cycle, now)

    def _prepare(self, state: State, record: CycleRecord, publication: Publication | None, fill: Callable[[Path], None]) -> None:
        for left_over in self._turn.glob(f"{_DRAFT}*"):
            shutil.rmtree(left_over)
        draft = self._turn / f"{_DRAFT}{uuid7()}"
        self._fault("draft")
        draft.mkdir()
        fill(draft)
        self._fault("filled")
        texts = {_STATE: state.model_dump_json(), _RECORD: record.model_dump_json()}
        if publication is not None:
            texts[_PUBLICATION] = publication.model_dump_json()
        for name, text in texts.items():
            (draft / name).write_text(text)
            self._fault(f"wrote {name}")
        seal(draft)
        self._fault("durable")
        target = self._commit(state.cycle)
        target.parent.mkdir(exist_ok=True)
        turns.land(self._turn, draft, target)
        self._fault("prepared")

    def _finish(self, cycle: int, now: float) -> str | None:
        """From prepared to current: publish, point, tell, tidy up. Every step may have been done before."""
        folder = self._commit(cycle)
        digest = verify(folder)
        adapter = None
        if (folder / _PUBLICATION).exists():
            publication = Publication.model_validate_json((folder / _PUBLICATION).read_text())
            people = State.model_validate_json((folder / _STATE).read_text()).people
            adapter = publish(self._registry, publication, folder / ADAPTER, people, now, self._place).id
            self._fault("published")
        pointer = {"cycle": cycle, "digest": digest, "adapter": adapter}
        partial = self._turn / "current.json"
        write_synced(partial, json.dumps(pointer).encode())
        self._fault("pointer written")
        turns.land(self._turn, partial, self._pointer_path)
        self._fault("committed")
        self._journal(cycle, adapter)
        self._fault("told")
        self.progress.drop()
        for old in sorted((self.folder / "commits").iterdir())[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        self._fault("tidied")
        return adapter

    def _journal(self, cycle: int, adapter: str | None) -> None:
        """Append the cycle's record to ``cycles.jsonl``, unless it is there."""
        record = CycleRecord.model_validate_json((self._commit(cycle) / _RECORD).read_text())
        lines = [line for line in journal(self.folder) if line["cycle"] == cycle]
        if any(line["outcome"] not in UNCOMMITTED for line in lines):
            return
        self.tell(record.model_copy(update={"adapter": adapter}))

    def tell(self, record: CycleRecord) -> None:
        """Append a record to ``cycles.jsonl``, which is for people and dashboards; nothing is learnt from it."""
        lines = [json.dumps(line) for line in journal(self.folder)]
        partial = self._turn / "cycles.jsonl"
        write_synced(partial, "".join(f"{line}\n" for line in [*lines, record.model_dump_json()]).encode())
        turns.land(self._turn, partial, self.folder / "cycles.jsonl")

    @property
    def _place(self) -> Path:
        """The turn's folder in the registry."""
        return self._held[0]

    @property
    def _turn(self) -> Path:
        """The turn's folder in this one."""
        return self._held[1]

    @property
    def _held(self) -> tuple[Path, Path]:
        if self._turns is None:
            raise RuntimeError(f"{self.folder}: is written with the lease only")
        return self._turns

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
            raise CheckpointError(
                f"{self._pointer_path}: is not JSON ({error}); restore it, or remove "
                f"{self._pointer_path.parent}: all votes are then learnt from anew"
            ) from error
        return pointer


def journal(folder: Path) -> list[dict[str, Any]]:
    """The records in ``cycles.jsonl`` of a trainer's folder, oldest first."""
    path = folder / "cycles.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
