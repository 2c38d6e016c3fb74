"""An adapter's card, in the form that the Hugging Face hub reads (https://huggingface.co/docs/hub/model-cards).

It says what the manifest says, in the same bytes whenever it is made. The registry's folders hold the adapter's files alone, so
the cards lie beside them, one file each; `plaudit adapters card` prints any adapter's.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ops import turns
from ops.registry import AdapterManifest, Registry
from ops.whole_files import write_synced

_FOLDER = "cards"
_HUB = {"smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def write_card(registry: Registry, manifest: AdapterManifest, turn: Path) -> None:
    """Beside the adapter; writing it again has one effect. ``turn`` is of `Registry.turns`."""
    path = registry.root / _FOLDER / f"{manifest.id}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = turn / path.name
    write_synced(draft, card_of(manifest).encode())
    turns.land(turn, draft, path)


def card_of(manifest: AdapterManifest) -> str:
    """Markdown with a YAML head."""
    training = manifest.training
    parts = [_head(manifest), f"# {manifest.id}", _summary(manifest), "## Evaluation", _gates(manifest)]
    if manifest.reward_models:
        parts += [
            f"Reward models, on votes that they never learnt from, divided by {training.get('divided_by', 'rater')}:",
            _reward_models(manifest),
        ]
    parts += ["## Training", _training(manifest)]
    if "config" in training:
        parts.append(f"```json\n{json.dumps(training['config'], indent=1, sort_keys=True)}\n```")
    parts += ["## Where it comes from", _origin(manifest), "## Limits", _LIMITS]
    return "\n\n".join(parts) + "\n"


_LIMITS = (
    "It has the base model's limits, and the taste of the people whose votes it learnt from, who need not be like other people. "
    "The gates were passed or failed on the questions named there and say nothing about others."
)


def _head(manifest: AdapterManifest) -> str:
    """The YAML; a JSON string is one of YAML's."""
    lines = ["library_name: peft", "pipeline_tag: text-generation"]
    model = str(manifest.training.get("model", ""))
    hub = _HUB.get(model, model)
    if _HUB_ID.fullmatch(hub):
        lines += [f"base_model: {json.dumps(hub)}", "base_model_relation: adapter"]
    tags = ["lora", "plaudit", "rlhf", str(manifest.training.get("algorithm", ""))]
    lines += ["tags:", *(f"- {json.dumps(tag)}" for tag in tags if tag)]
    figures = [gate for gate in manifest.gates if gate.value is not None]
    if figures:
        lines += ["model-index:", f"- name: {json.dumps(manifest.id)}", "  results:", "  - task:", "      type: text-generation"]
        lines += ["    dataset:", "      name: people's questions", "      type: plaudit", "    metrics:"]
        for gate in figures:
            lines += [f"    - type: {json.dumps(gate.name)}", f"      value: {gate.value}"]
    return "\n".join(["---", *lines, "---"])


def _summary(manifest: AdapterManifest) -> str:
    training = manifest.training
    made = f"A LoRA adapter (rank {manifest.rank}, alpha {manifest.alpha:g}) of project `{manifest.project}`"
    votes = (
        f", with {training['new_votes']} new votes of {training['votes']}" if {"votes", "new_votes"} <= training.keys() else ""
    )
    outcome = "It passed every gate." if manifest.passed else "It did not pass every gate: it is never served."
    return f"{made}, made from `{manifest.parent}`{votes}. {outcome}"


def _gates(manifest: AdapterManifest) -> str:
    rows = [[gate.name, gate.outcome, _figure(gate.value), _figure(gate.threshold), gate.detail] for gate in manifest.gates]
    return _table(["gate", "outcome", "figure", "threshold", "detail"], rows)


def _reward_models(manifest: AdapterManifest) -> str:
    names = ("name", "votes", "n", "accuracy", "majority", "tfidf", "nll")
    return _table(list(names), [[_figure(model.get(name)) for name in names] for model in manifest.reward_models])


def _training(manifest: AdapterManifest) -> str:
    training = manifest.training
    names = (
        "algorithm",
        "cycle",
        "trigger",
        "steps",
        "ended_by",
        "softened",
        "votes",
        "new_votes",
        "effective_labels",
        "raters",
        "kinds",
        "sources",
        "divided_by",
        "seed",
        "seeds",
    )
    rows = [[name, _figure(training[name])] for name in names if name in training]
    rows += [[f"{name} (last step)", _figure(value)] for name, value in sorted(training.get("last_step", {}).items())]
    rows += [[name, _figure(value)] for name, value in training.get("software", {}).items()]
    return _table(["what", "value"], rows)


def _origin(manifest: AdapterManifest) -> str:
    examples = manifest.training.get("examples", {})
    rows = [["parent", manifest.parent], ["base model (digest)", manifest.base_model]]
    rows += [["examples", _figure(examples.get("count"))], ["Merkle root", _figure(examples.get("merkle_root"))]]
    rows += [[f"offsets of {topic}", told] for topic, told in ranges_of(manifest).items()]
    rows += [[f"SHA-256 of {name}", digest] for name, digest in manifest.files.items()]
    how = f"`plaudit adapters show {manifest.id} --feedback` lists the feedback from the log and finds the root again."
    return f"{_table(['what', 'value'], rows)}\n\n{how}"


def ranges_of(manifest: AdapterManifest) -> dict[str, str]:
    """What of the log was new to it, by topic: "partition: from-to", to being exclusive."""
    offsets: dict[str, dict[str, Any]] = manifest.training.get("offsets", {})
    return {
        topic: ", ".join(f"{partition}: {_range(ends)}" for partition, ends in partitions.items())
        for topic, partitions in offsets.items()
    }


def _range(ends: Any) -> str:
    return "-".join(map(str, ends)) if isinstance(ends, list | tuple) else str(ends)


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    return "" if value is None else str(value)


def _table(columns: list[str], rows: list[list[str]]) -> str:
    cells = [columns, ["---"] * len(columns), *([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
