"""The registry of adapters: immutable folders, named by their content, published by one atomic rename.

``<root>/<adapter id>/`` holds ``adapter_config.json``, ``adapter_model.safetensors`` and ``manifest.json``, nothing
else. An id is ``<project>-v<n>-<sha8>``: the digest covers the files and everything the manifest says but id, version
and times, so an altered manifest no longer fits its folder's name. Beside them: ``learned_from/`` and ``cards/``, which tell of
adapters, and ``.turns/``, whose turn it is to publish (`ops.turns`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog
from filelock import FileLock
from pydantic import Field, ValidationError

from feedback.events import Frozen
from feedback.ids import uuid7
from ops import turns
from ops.adapter_files import (
    ADAPTER_FILES,
    CONFIG_FILE,
    MANIFEST_FILE,
    AdapterRefused,
    check_config,
    check_listing,
    check_weights,
    read_file,
    read_json,
)
from ops.projects import PROJECT_NAME
from ops.whole_files import sync, write_synced

__all__ = ["AdapterManifest", "AdapterRefused", "GateResult", "Registry", "project_of"]

_ID = re.compile(rf"(?P<project>{PROJECT_NAME})-v(?P<version>[1-9][0-9]{{0,8}})-(?P<digest>[0-9a-f]{{8}})")
_LOCK_TIMEOUT_S = 30.0
_UNCOVERED = {"id", "version", "created", "published"}

_logger = structlog.get_logger(__name__)


def project_of(adapter: str) -> str | None:
    """The project in an adapter's id; None for what is no adapter id."""
    matched = _ID.fullmatch(adapter)
    return matched and matched["project"]


class GateResult(Frozen):
    """One gate's verdict on an adapter: its figure and the threshold that figure had to meet."""

    name: str
    passed: bool
    value: float | None = None
    threshold: float | None = None
    detail: str = ""

    @property
    def outcome(self) -> str:
        """A gate without anything to measure stands open; what it says is no praise."""
        return "failed" if not self.passed else "open" if self.value is None else "passed"


class AdapterManifest(Frozen):
    """Where an adapter comes from. ``files`` maps names to SHA-256; times are Unix seconds."""

    id: str
    project: str
    version: int = Field(ge=1, description="1, 2, …; 0 is the base.")
    parent: str = Field(description="Adapter id, or 'base'.")
    base_model: str = Field(description="Digest of the base model.")
    created: float = Field(description="When the weights were written.")
    published: float
    files: dict[str, str]
    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    training: dict[str, Any] = Field(default_factory=dict)
    reward_models: tuple[dict[str, Any], ...] = ()
    gates: tuple[GateResult, ...] = ()

    @property
    def passed(self) -> bool:
        """Every gate passed, and there was at least one."""
        return bool(self.gates) and all(gate.passed for gate in self.gates)

    @property
    def digest(self) -> str:
        """SHA-256 of what the adapter is: its manifest but id, version and times."""
        content = self.model_dump(mode="json", exclude=_UNCOVERED)
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Registry:
    """Adapters under ``root``. Any number of processes may publish and read at once; nothing is ever rewritten."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._told: set[str] = set()

    def publish(
        self,
        staging: Path,
        *,
        project: str,
        parent: str,
        base_model: str,
        training: dict[str, Any],
        reward_models: Sequence[dict[str, Any]] = (),
        gates: Sequence[GateResult],
        now: float,
        turn: Path | None = None,
    ) -> AdapterManifest:
        """Copy the two adapter files of ``staging`` (which stays as it is) and list them under the project's next version.

        Content that was published before gives the manifest it got then: publishing again after a crash has one
        effect. Durable once it returns. Whether the weights are fit to be served is for `verify` and the gates to say.
        ``turn`` is the folder of the caller's turn in `turns` of the project: then nothing is listed once that is over, and no
        lock is waited for. Without, a lock of this machine keeps publishers apart.
        Raises `AdapterRefused` if staging holds no adapter, `OSError` if it cannot be written, `ops.turns.TurnLost`.
        """
        files = {name: read_file(staging, name) for name in ADAPTER_FILES}
        config = read_json(staging, CONFIG_FILE, files[CONFIG_FILE])
        try:
            draft = AdapterManifest(
                id="",
                project=project,
                version=1,
                parent=parent,
                base_model=base_model,
                created=min(now, max((staging / name).stat().st_mtime for name in ADAPTER_FILES)),
                published=now,
                files={name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
                rank=config.get("r"),
                alpha=config.get("lora_alpha"),
                target_modules=config.get("target_modules"),
                training=training,
                reward_models=tuple(reward_models),
                gates=tuple(gates),
            )
        except ValidationError as error:
            raise AdapterRefused(staging.name, CONFIG_FILE, str(error)) from error
        self.root.mkdir(parents=True, exist_ok=True)
        if turn is not None:
            with turns.within(turn):
                return self._publish(draft, files, turn)
        with FileLock(self.root / ".lock", timeout=_LOCK_TIMEOUT_S):
            return self._publish(draft, files, None)

    def turns(self, project: str) -> Path:
        """Where the turns are (`ops.turns`) of those who publish for a project."""
        return self.root / ".turns" / project

    def _publish(self, draft: AdapterManifest, files: dict[str, bytes], turn: Path | None) -> AdapterManifest:
        draft = AdapterManifest.model_validate_json(draft.model_dump_json())  # what reading it again gives
        version = 1
        for name in self._names(draft.project):
            matched = _ID.fullmatch(name)
            assert matched is not None
            version = max(version, int(matched["version"]) + 1)
            if matched["digest"] == draft.digest[:8]:
                return self.get(name)
        manifest = draft.model_copy(update={"id": f"{draft.project}-v{version}-{draft.digest[:8]}", "version": version})
        where = self.root if turn is None else turn
        for left_over in where.glob(".staging-*"):  # ours is the lock, or the turn: nobody else is writing one
            shutil.rmtree(left_over)
        folder = where / f".staging-{uuid7()}"
        folder.mkdir()
        for name, data in (files | {MANIFEST_FILE: manifest.model_dump_json(indent=2).encode()}).items():
            write_synced(folder / name, data)
        sync(folder)
        os.rename(folder, self.root / manifest.id)
        sync(self.root)
        return manifest

    def get(self, id: str) -> AdapterManifest:
        """The manifest, unverified. Raises `LookupError` if there is none, `AdapterRefused` if it is unreadable or foreign."""
        folder = self.root / id
        if not _ID.fullmatch(id) or not folder.is_dir():
            raise LookupError(f"adapter {id!r}: there is none in {self.root}")
        data = read_file(folder, MANIFEST_FILE)
        try:
            manifest = AdapterManifest.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "json"
            raise AdapterRefused(id, f"{MANIFEST_FILE}: {field}", first["msg"]) from error
        named = f"{manifest.project}-v{manifest.version}-{manifest.digest[:8]}"
        for value, what in ((manifest.id, "id"), (named, "content")):
            if value != id:
                raise AdapterRefused(id, f"{MANIFEST_FILE}: {what}", f"{value!r} does not fit the folder's name")
        return manifest

    def list(self, project: str) -> list[AdapterManifest]:
        """A project's adapters, oldest version first. Those that cannot be read are left out, and logged once."""
        return [*self.scan(project)[0]]

    def scan(self, project: str) -> tuple[Sequence[AdapterManifest], dict[str, AdapterRefused]]:
        """What `list` gives, and by name the folders that are named like adapters and have no readable manifest."""
        manifests = []
        problems: dict[str, AdapterRefused] = {}
        for name in self._names(project):
            try:
                manifests.append(self.get(name))
            except LookupError:
                problems[name] = AdapterRefused(name, "folder", "is not a folder")
            except AdapterRefused as refusal:
                problems[name] = refusal
        for name in problems.keys() - self._told:
            _logger.warning("adapter_unreadable", adapter=name, reason=problems[name].reason)
        self._told |= problems.keys()
        return sorted(manifests, key=lambda manifest: manifest.version), problems

    def path(self, id: str) -> Path:
        """An adapter's folder, whether it exists or not. Raises `AdapterRefused` for what is no adapter id (``../x``)."""
        if not _ID.fullmatch(id):
            raise AdapterRefused(id, "id", f"{id!r} is not <project>-v<n>-<8 hex digits>")
        return self.root / id

    def verify(self, id: str, max_rank: int) -> AdapterManifest:
        """The manifest of an adapter that vLLM may be given; reads every byte. Raises `AdapterRefused`, `LookupError`.

        Checked: the id, no links and no file but the three, SHA-256 of each, plain LoRA of a rank vLLM takes and
        ``max_rank`` allows, allow-listed configuration, complete and finite weights of bounded norm.
        """
        folder = self.path(id)
        check_listing(folder)
        manifest = self.get(id)
        if set(manifest.files) != set(ADAPTER_FILES):
            raise AdapterRefused(id, f"{MANIFEST_FILE}: files", f"lists {sorted(manifest.files)}")
        files = {name: read_file(folder, name) for name in ADAPTER_FILES}
        for name, data in files.items():
            if hashlib.sha256(data).hexdigest() != manifest.files[name]:
                raise AdapterRefused(id, f"{name}: sha256", f"is not {manifest.files[name]}, as its manifest says")
        shape = check_config(folder, files[CONFIG_FILE], max_rank)
        for field, value, said in (
            ("r", shape.rank, manifest.rank),
            ("lora_alpha", shape.alpha, manifest.alpha),
            ("target_modules", sorted(shape.target_modules), sorted(manifest.target_modules)),
        ):
            if value != said:
                raise AdapterRefused(id, f"{CONFIG_FILE}: {field}", f"{value!r}, its manifest says {said!r}")
        check_weights(folder, files[ADAPTER_FILES[1]], shape)
        return manifest

    def _names(self, project: str) -> Sequence[str]:
        """Folder names that have the form of the project's adapter ids, sorted."""
        try:
            matches = [_ID.fullmatch(name) for name in sorted(os.listdir(self.root))]
        except FileNotFoundError:
            return ()
        return [matched[0] for matched in matches if matched is not None and matched["project"] == project]
