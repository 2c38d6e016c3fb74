"""An adapter's way into the registry: what is said about it is fixed before, so that publishing again has one effect."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from feedback.events import Frozen
from ops.learned_from import note_people
from ops.model_card import write_card
from ops.registry import AdapterManifest, GateResult, Registry


class Publication(Frozen):
    """Everything the manifest will say. ``training["cycle_key"]`` names the cycle: a registry holds one adapter for each."""

    project: str
    parent: str
    base_model: str
    training: dict[str, Any]
    reward_models: tuple[dict[str, Any], ...]
    gates: tuple[GateResult, ...]


def cycle_key(project: str, cycle: int, previous: str, offsets: Mapping[str, Mapping[int, int]]) -> str:
    """Names what a cycle learns: the log up to ``offsets``, after the commit whose digest is ``previous``."""
    return hashlib.sha256(json.dumps([project, cycle, previous, offsets], sort_keys=True).encode()).hexdigest()


def publish(
    registry: Registry, publication: Publication, files: Path, people: Collection[str], now: float, turn: Path
) -> AdapterManifest:
    """List the adapter in ``files``, unless one of this cycle is listed: then that one is the answer.

    ``people``, the hashes of all whom it learned from, are noted beside it, and its card lies there.
    ``turn`` is the trainer's in `Registry.turns`.
    """
    manifest = _listed(registry, publication) or registry.publish(
        files,
        project=publication.project,
        parent=publication.parent,
        base_model=publication.base_model,
        training=publication.training,
        reward_models=publication.reward_models,
        gates=publication.gates,
        now=now,
        turn=turn,
    )
    note_people(registry, manifest.id, people, turn)
    write_card(registry, manifest, turn)
    return manifest


def _listed(registry: Registry, publication: Publication) -> AdapterManifest | None:
    key = publication.training["cycle_key"]
    same = (manifest for manifest in registry.list(publication.project) if manifest.training.get("cycle_key") == key)
    return next(same, None)
