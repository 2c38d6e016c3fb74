"""Where two adapters differ, by what their manifests say: figures, gates, settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ops.registry import AdapterManifest, GateResult

Side = AdapterManifest | None
"""None: the base, which nobody has trained."""

Sides = tuple[Any, Any]
"""What each of the two has; None: nothing."""

_NOT_FIGURES = {"config", "cycle_key", "offsets", "examples", "software", "seeds", "seed"}


def gates_of(a: Side, b: Side) -> dict[str, tuple[GateResult | None, GateResult | None]]:
    """Every gate that either passed or failed, by name, in their order."""
    known = [{gate.name: gate for gate in manifest.gates} if manifest else {} for manifest in (a, b)]
    return {name: (known[0].get(name), known[1].get(name)) for name in dict.fromkeys([*known[0], *known[1]])}


def settings_of(a: Side, b: Side) -> dict[str, Sides]:
    """Settings of the training, seeds and software that are not the same, by dotted name; the base has none to differ."""
    return _differences(_settings(a), _settings(b)) if a and b else {}


def figures_of(a: Side, b: Side) -> dict[str, Sides]:
    """All else that is told of the training and of the reward models, where it is not the same."""
    return _differences(*(_figures(manifest) for manifest in (a, b)))


def _settings(manifest: AdapterManifest) -> dict[str, Any]:
    return {name: manifest.training.get(name, {}) for name in ("config", "seed", "software")}


def _figures(manifest: Side) -> dict[str, Any]:
    if manifest is None:
        return {}
    training = {name: value for name, value in manifest.training.items() if name not in _NOT_FIGURES}
    models = {model.get("name", str(place)): model for place, model in enumerate(manifest.reward_models)}
    return {"parent": manifest.parent, "base_model": manifest.base_model, **training, **models}


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Sides]:
    one, two = flat(a), flat(b)
    return {name: (one.get(name), two.get(name)) for name in dict.fromkeys([*one, *two]) if one.get(name) != two.get(name)}


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, by dotted names."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    return {
        name: each
        for key, inner in value.items()
        for name, each in flat(inner, f"{prefix}.{key}" if prefix else str(key)).items()
    }
