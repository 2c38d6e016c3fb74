"""Adapters that say their own number: each makes the model answer with one word of its own, whatever it is asked.

So an answer shows which adapter made every token of it. They are written down, not trained, and no forward pass is
needed. Four pairs of hidden units in the last layer's MLP get gate = up = +c and -c, where c is a random projection of
their input: silu(g) u is then about relu(c)^2, and a pair adds up to c^2, which no input makes negative. They all point
in the one direction that the word's logit likes best after the final norm, and so loudly that the rest is drowned.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer

Floats = NDArray[np.float32]

_RANK = 8
"""Hidden units taken: four pairs."""

_PROJECTION = 100.0
"""Size of c, on average: beside it, what the units' own weights make of their input is little."""

_VOLUME = 100.0
"""Times c^2: what is added to the hidden state. Thousands of times its norm, and far from bfloat16's limits."""

_RIDGE = 1.0
"""Of the words' covariance, as a share of its mean variance."""

_CLEAR_GAP_NATS = 8.0
"""Logit of the word over the log of all others' weight together: less, and chance or rounding might say another."""

_MOST_WORDS = 8192
"""So many of the vocabulary are looked at: the matrix of all against all would be large."""

_WORD = re.compile(r" ?[A-Za-z0-9]+")
_DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


class NoNumbers(ValueError):
    """The model is not one that such adapters can be made for."""


@dataclass(frozen=True)
class NumberToken:
    """A word of the vocabulary that an adapter can say for ever. ``gap`` in nats, see `_CLEAR_GAP_NATS`."""

    id: int
    word: str
    gap: float

    def count(self, answer: str) -> int | None:
        """How often the answer says the word; None where it says anything else."""
        words = answer.split()
        return len(words) if set(words) <= {self.word} else None


def number_tokens(model: Path, count: int) -> list[NumberToken]:
    """The clearest ``count`` words of the model in folder ``model``, all different. Raises `NoNumbers` if it has fewer."""
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    words = _words(tokenizer)
    ids = np.array(list(words)[:_MOST_WORDS])
    rows = _logit_rows(model)
    found: dict[str, NumberToken] = {}
    for id, gap in sorted(zip(ids.tolist(), _gaps(rows, ids).tolist(), strict=True), key=lambda each: (-each[1], each[0])):
        if gap >= _CLEAR_GAP_NATS:
            found.setdefault(words[id], NumberToken(id, words[id], round(gap, 2)))
    if len(found) < count:
        raise NoNumbers(f"{model}: {len(found)} words can be said clearly, {count} are asked for")
    return list(found.values())[:count]


def write_number_adapter(folder: Path, model: Path, number: int, token: NumberToken) -> Path:
    """Write to ``folder``, in PEFT's layout, an adapter that says ``token`` and nothing else.

    ``number`` seeds the projections: two adapters of one word differ in content, and so in the registry.
    """
    config = json.loads((model / "config.json").read_text())
    hidden, inner, last = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"] - 1
    layer = f"model.layers.{last}"
    loudness = float(np.sqrt(np.square(_tensor(model, f"{layer}.post_attention_layernorm.weight")).mean()))
    projections = np.random.default_rng(number).standard_normal((_RANK // 2, hidden))
    projections *= _PROJECTION / loudness / np.linalg.norm(projections, axis=1, keepdims=True)
    signed = np.concatenate([projections, -projections])
    units = np.eye(inner, _RANK)
    direction = _directions(_logit_rows(model), np.array([token.id]))[0]
    speak = np.zeros((hidden, _RANK))
    speak[:, 0] = _VOLUME * direction / np.linalg.norm(direction)
    listen = np.zeros((_RANK, inner))
    listen[0, :_RANK] = 1
    pairs = {"gate_proj": (signed, units), "up_proj": (signed, units), "down_proj": (listen, speak)}
    _write(folder, {f"base_model.model.{layer}.mlp.{name}": pair for name, pair in pairs.items()})
    return folder


def _write(folder: Path, pairs: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]) -> None:
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": _RANK,
        "lora_alpha": _RANK,  # the scale alpha / r is one
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(name.rpartition(".")[2] for name in pairs),
    }
    tensors = {}
    for name, (a, b) in pairs.items():
        tensors[f"{name}.lora_A.weight"] = np.ascontiguousarray(a, np.float32)
        tensors[f"{name}.lora_B.weight"] = np.ascontiguousarray(b, np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(settings))


def _words(tokenizer: Tokenizer) -> dict[int, str]:
    """Tokens, by id, that read as one and the same word however often they are repeated."""
    words: dict[int, str] = {}
    for id in range(tokenizer.get_vocab_size(with_added_tokens=False)):
        text = tokenizer.decode([id], skip_special_tokens=True)
        if _WORD.fullmatch(text) and tokenizer.decode([id] * 3).split() == [text.strip()] * 3:
            words[id] = text.strip()
    return words


def _logit_rows(model: Path) -> Floats:
    """(vocabulary, hidden): logits are these rows times the final hidden state over its root mean square."""
    head = "lm_head.weight" if "lm_head.weight" in _places(model) else "model.embed_tokens.weight"
    return _tensor(model, head) * _tensor(model, "model.norm.weight")


def _directions(rows: Floats, ids: NDArray[np.int64]) -> Floats:
    """(ids, hidden): for each token the hidden state, of root mean square 1, that tells it best from all others.

    Its own row would favour also whatever resembles it: the difference from the mean row, over the rows' covariance,
    does not (Fisher's discriminant).
    """
    covariance = np.cov(rows.T)
    ridge = _RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    found = np.linalg.solve(covariance + ridge, (rows[ids] - rows.mean(axis=0)).T).T
    root_mean_squares = np.sqrt(np.square(found).mean(axis=1, keepdims=True))
    return np.asarray(found / root_mean_squares, np.float32)


def _gaps(rows: Floats, ids: NDArray[np.int64]) -> Floats:
    """For each token, its logit under its own direction minus the log of the sum of all others' exponentials."""
    directions = _directions(rows, ids)
    gaps = []
    for start in range(0, len(ids), 256):
        some = ids[start : start + 256]
        logits = directions[start : start + 256] @ rows.T
        own = logits[np.arange(len(some)), some]
        logits[np.arange(len(some)), some] = -np.inf
        top = logits.max(axis=1)
        gaps.append(own - top - np.log(np.exp(logits - top[:, None]).sum(axis=1)))
    return np.concatenate(gaps)


def _tensor(model: Path, name: str) -> Floats:
    """One tensor as float32; safetensors' own reader for numpy knows no bfloat16. Raises `NoNumbers` if there is none."""
    place = _places(model).get(name)
    if place is None:
        raise NoNumbers(f"{model}: no tensor named {name}")
    if place.dtype not in _DTYPES:
        raise NoNumbers(f"{place.file}: {name} is {place.dtype}, not one of {', '.join(_DTYPES)}")
    raw = np.fromfile(place.file, _DTYPES[place.dtype], int(np.prod(place.shape)), offset=place.offset)
    values = (raw.astype(np.uint32) << 16).view(np.float32) if place.dtype == "BF16" else raw.astype(np.float32)
    return values.reshape(place.shape)


class _Place(NamedTuple):
    """Where a tensor lies: ``offset`` in bytes from the file's start."""

    file: Path
    offset: int
    dtype: str
    shape: tuple[int, ...]


def _places(model: Path) -> dict[str, _Place]:
    """Every tensor of the model's safetensors files, from their headers."""
    places: dict[str, _Place] = {}
    for path in sorted(model.glob("*.safetensors")):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        for name, about in header.items():
            if name != "__metadata__":
                places[name] = _Place(path, 8 + length + about["data_offsets"][0], about["dtype"], tuple(about["shape"]))
    return places
