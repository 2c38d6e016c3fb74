"""What one JSON Schema takes from readers or writers of another: the rule is that fields are only ever added, with a default."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def breaks(old: Schema, new: Schema) -> list[str]:
    """Why events of one version are not readable to the other, a line each: none if both may read what either writes.

    New values of an enumeration, and new kinds of a union told apart by a field, are no breach: an older reader leaves
    such an event alone, or calls it a dead letter until it is newer itself.
    """
    before, after = _fields(old), _fields(new)
    found = [f"{path}: gone" for path in before if path not in after]
    for path, (values, required) in before.items():
        if path in after:
            now, still = after[path]
            found += [f"{path}: {value} is not taken any more" for value in sorted(values - now)]
            found += [f"{path}: {value} is new" for value in sorted(now - values) if value.startswith("type ")]
            found += [f"{path}: required now"] if still and not required else []
    parents = {path.rpartition("/")[0] for path in before}
    for path, (_, required) in after.items():
        if path not in before and required and not path.endswith("]") and path.rpartition("/")[0] in parents:
            found.append(f"{path}: new, and required")
    return found


def _fields(schema: Schema) -> dict[str, tuple[set[str], bool]]:
    """Every field by its path: what it may hold, and whether it must be there."""
    fields: dict[str, tuple[set[str], bool]] = {}
    _walk(schema, schema, "", True, fields)
    return fields


def _walk(root: Schema, node: Schema, path: str, required: bool, fields: dict[str, tuple[set[str], bool]]) -> None:
    node = _resolved(root, node)
    values, _ = fields.setdefault(path, (set(), required))
    for option in node.get("anyOf", []) + node.get("oneOf", []):
        kind = _resolved(root, option).get("properties", {}).get("kind", {}).get("const")
        _walk(root, option, f"{path}[{kind}]" if kind else path, required, fields)
    if "const" in node or "enum" in node:
        values.update(f"value {value!r}" for value in node.get("enum", [node.get("const")]))
    elif "type" in node:
        values.add(f"type {node['type']}")
    for name, field in node.get("properties", {}).items():
        _walk(root, field, f"{path}/{name}", name in node.get("required", []), fields)
    if "items" in node:
        _walk(root, node["items"], f"{path}/*", True, fields)


def _resolved(root: Schema, node: Schema) -> Schema:
    while "$ref" in node:
        node = root["$defs"][node["$ref"].removeprefix("#/$defs/")]
    return node
