"""Whom each adapter learned from, and so which are tainted once somebody is erased.

A list of hashes lies beside the registry's immutable folders, one file an adapter, written when it is published: it names all
whose words are in what the trainer kept by then, be it from cycles before. An adapter also has what its parent has.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from ops import turns
from ops.registry import AdapterManifest, Registry
from ops.whole_files import write_synced

_FOLDER = "learned_from"


def note_people(registry: Registry, adapter: str, people: Collection[str], turn: Path) -> None:
    """Write the list of an adapter, durably and at once; noting it again has one effect. ``turn`` is of `Registry.turns`."""
    path = _path(registry, adapter)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = turn / path.name
    write_synced(draft, json.dumps(sorted(people), indent=0).encode())
    turns.land(turn, draft, path)


def people_of(registry: Registry, adapter: str) -> frozenset[str] | None:
    """Whom it learned from, by hash, its parents' people left out; None: nobody has noted it."""
    try:
        return frozenset(json.loads(_path(registry, adapter).read_text()))
    except FileNotFoundError:
        return None


def taint(registry: Registry, manifests: Iterable[AdapterManifest], erased: Collection[str]) -> dict[str, str]:
    """Why an adapter is tainted, by its id; those that are not are left out. ``erased`` are hashes.

    An adapter of which nobody noted whom it learned from may have learned from anybody.
    """
    parents = {manifest.id: manifest.parent for manifest in manifests}
    reasons = {adapter: reason for adapter in parents if (reason := _reason(people_of(registry, adapter), erased))}
    return {adapter: found for adapter in parents if (found := _inherited(adapter, parents, reasons))} if erased else {}


def containing(registry: Registry, manifests: Iterable[AdapterManifest], person: str) -> dict[str, str]:
    """Which adapters have learned from somebody, a hash, and how: themselves, or one that they were made from; by id.

    An adapter of which nobody noted whom it learned from is there too, and says so.
    """
    parents = {manifest.id: manifest.parent for manifest in manifests}
    noted = {adapter: people_of(registry, adapter) for adapter in parents}
    unknown = "not known whom it learned from"
    reasons = {a: unknown if who is None else "learned from them" for a, who in noted.items() if who is None or person in who}
    return {adapter: found for adapter in parents if (found := _inherited(adapter, parents, reasons))}


def _reason(people: frozenset[str] | None, erased: Collection[str]) -> str:
    if people is None:
        return "not known whom it learned from"
    gone = sorted(people.intersection(erased))
    return f"learned from {', '.join(gone)}, since erased" if gone else ""


def _inherited(adapter: str, parents: Mapping[str, str], reasons: Mapping[str, str]) -> str:
    """Its own reason, else that of the nearest parent which has one."""
    ancestor = adapter
    while ancestor in parents:
        if ancestor in reasons:
            return reasons[ancestor] if ancestor == adapter else f"made from {ancestor}: {reasons[ancestor]}"
        ancestor = parents[ancestor]
    return ""


def _path(registry: Registry, adapter: str) -> Path:
    return registry.root / _FOLDER / f"{adapter}.json"
