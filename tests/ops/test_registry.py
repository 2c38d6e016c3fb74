from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from lora_files import CONFIG, MODULE, publish, weights, write_lora
from safetensors.numpy import save_file

from ops.adapter_files import MAX_UPDATE_NORM, check_config
from ops.registry import AdapterManifest, AdapterRefused, GateResult, Registry

MAX_RANK = 16


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "adapters")


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    return write_lora(tmp_path / "staging")


def resealed(registry: Registry, id: str) -> str:
    """Make an adapter's manifest fit its altered files again, as somebody who can write the folder could; the new id."""
    folder = registry.root / id
    said = json.loads((folder / "manifest.json").read_text())
    said["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in said["files"]}
    manifest = AdapterManifest.model_validate(said)
    sealed = manifest.model_copy(update={"id": f"{manifest.project}-v{manifest.version}-{manifest.digest[:8]}"})
    (folder / "manifest.json").write_text(sealed.model_dump_json())
    folder.rename(registry.root / sealed.id)
    return sealed.id


def test_a_published_adapter_is_listed_verified_and_named_by_its_content(registry, staging):
    manifest = publish(registry, staging, now=1234.5)
    assert manifest.id == f"default-v1-{manifest.digest[:8]}"
    assert (manifest.version, manifest.parent, manifest.rank, manifest.alpha) == (1, "base", 8, 16.0)
    assert manifest.published == 1234.5
    assert manifest.target_modules == ("q_proj",)
    assert manifest.files["adapter_config.json"] == hashlib.sha256((staging / "adapter_config.json").read_bytes()).hexdigest()
    assert registry.list("default") == [manifest] == [registry.get(manifest.id)] == [registry.verify(manifest.id, MAX_RANK)]
    assert sorted(os.listdir(registry.path(manifest.id))) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    ]


def test_the_same_content_published_again_is_the_same_adapter(registry, staging, tmp_path):
    first = publish(registry, staging, now=1.0)
    again = publish(registry, write_lora(tmp_path / "copy"), now=2.0)
    assert again == first
    other = publish(registry, write_lora(tmp_path / "other", seed=1), now=3.0)
    assert (other.version, len(registry.list("default"))) == (2, 2)
    assert publish(registry, staging, parent=first.id).version == 3  # another parent: another adapter


def test_only_an_adapter_with_gates_that_all_passed_has_passed(registry, staging):
    assert publish(registry, staging).passed
    assert not publish(registry, staging, passed=False).passed
    none = registry.publish(staging, project="default", parent="base", base_model="d", training={}, gates=[], now=1.0)
    assert not none.passed


def test_projects_have_their_own_versions_even_when_one_name_starts_like_another(registry, staging):
    publish(registry, staging, project="a")
    assert publish(registry, staging, project="a-v7").version == 1
    assert [m.project for m in registry.list("a")] == ["a"]


def test_versions_are_listed_in_number_order(registry, tmp_path):
    for seed in range(11):
        publish(registry, write_lora(tmp_path / f"s{seed}", seed=seed))
    assert [m.version for m in registry.list("default")] == list(range(1, 12))


def test_publishers_at_the_same_time_get_distinct_versions(registry, tmp_path):
    folders = [write_lora(tmp_path / f"s{i}", seed=i) for i in range(12)]
    with ThreadPoolExecutor(6) as pool:
        manifests = list(pool.map(lambda folder: publish(Registry(registry.root), folder), folders))
    assert sorted(m.version for m in manifests) == list(range(1, 13))
    assert {m.id for m in registry.list("default")} == {m.id for m in manifests}


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from lora_files import publish
from ops.registry import Registry
left = int(sys.argv[4])
def die(): os.kill(os.getpid(), signal.SIGKILL)
def hook(event, arguments):
    global left
    if event == "os.rename":
        die()
    if event == "open" and ".staging-" in str(arguments[0]) and arguments[2] & os.O_CREAT:
        left -= 1
        if left == -1:
            Path(arguments[0]).write_bytes(b"half of it")
            die()
sys.addaudithook(hook)
publish(Registry(Path(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("survived", [0, 2, 3], ids=["in the first file", "in the manifest", "before the rename"])
def test_a_publisher_killed_in_the_middle_leaves_nothing_listed_and_the_next_one_clears_up(registry, staging, survived):
    command = [sys.executable, "-c", KILLED, registry.root, staging, Path(__file__).parent.parent, str(survived)]
    done = subprocess.run([str(part) for part in command], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert registry.scan("default") == ([], {})
    assert [name for name in os.listdir(registry.root) if name.startswith(".staging-")]
    assert publish(registry, staging).version == 1
    assert sorted(name for name in os.listdir(registry.root) if name != ".lock") == [registry.list("default")[0].id]


def test_staging_without_weights_is_refused_and_nothing_is_listed(registry, staging):
    (staging / "adapter_model.safetensors").unlink()
    with pytest.raises(AdapterRefused, match=r"adapter_model\.safetensors: cannot be read"):
        publish(registry, staging)
    assert registry.list("default") == []


def test_folders_without_a_readable_manifest_are_reported_and_the_others_listed(registry, staging):
    good = publish(registry, staging)
    (registry.root / "default-v7-0000000a").mkdir()
    bad = registry.root / "default-v8-0000000b"
    shutil.copytree(registry.path(good.id), bad)
    (bad / "manifest.json").write_text("{")
    (registry.root / "notes.txt").write_text("not ours")
    (registry.root / "default-v9-0000000c").write_text("a file")
    assert registry.list("default") == [good]
    problems = registry.scan("default")[1]
    assert sorted(problems) == ["default-v7-0000000a", "default-v8-0000000b", "default-v9-0000000c"]
    assert problems["default-v7-0000000a"].field == "manifest.json"
    assert "manifest.json: json" in str(problems["default-v8-0000000b"])


@pytest.mark.parametrize(
    "id", ["../default-v1-00000000", "default-v1-0000000", "default", "", "a/b-v1-00000000", "x-v0-00000000"]
)
def test_what_is_no_adapter_id_never_becomes_a_path(registry, id):
    with pytest.raises(AdapterRefused, match="id: "):
        registry.path(id)
    with pytest.raises(AdapterRefused, match="id: "):
        registry.verify(id, MAX_RANK)
    with pytest.raises(LookupError, match="there is none"):
        registry.get(id)


def test_an_adapter_that_is_not_there_is_a_lookup_error(registry):
    for look in (registry.get, lambda id: registry.verify(id, MAX_RANK)):
        with pytest.raises(LookupError, match="there is none"):
            look("default-v1-00000000")


def refusal(registry: Registry, id: str, max_rank: int = MAX_RANK) -> AdapterRefused:
    with pytest.raises(AdapterRefused) as caught:
        registry.verify(id, max_rank)
    assert id in str(caught.value)
    return caught.value


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_one_flipped_bit_is_refused(registry, staging, name):
    path = registry.path(publish(registry, staging).id) / name
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    assert refusal(registry, path.parent.name).field == f"{name}: sha256"


@pytest.mark.parametrize(
    ("field", "value"), [("gates", [{"name": "win_rate", "passed": True, "value": 0.99, "threshold": 0.5}]), ("parent", "x")]
)
def test_an_altered_manifest_no_longer_fits_its_folder(registry, staging, field, value):
    manifest = publish(registry, staging, passed=False)
    path = registry.path(manifest.id) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    assert refusal(registry, manifest.id).field == "manifest.json: content"


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.pt", "tokenizer.json", "README.md", ".hidden"])
def test_a_file_too_many_is_refused_by_name(registry, staging, name):
    id = publish(registry, staging).id
    (registry.path(id) / name).write_bytes(b"\x80\x04.")
    assert refusal(registry, id).field == name


def test_a_missing_file_is_refused_by_name(registry, staging):
    id = publish(registry, staging).id
    (registry.path(id) / "adapter_model.safetensors").unlink()
    assert refusal(registry, id).reason == "adapter_model.safetensors: is missing"


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "manifest.json"])
def test_a_symbolic_link_is_refused_even_to_the_same_bytes(registry, staging, name, tmp_path):
    path = registry.path(publish(registry, staging).id) / name
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert refusal(registry, path.parent.name).reason == f"{name}: is a symbolic link"


def test_a_linked_folder_is_refused(registry, staging, tmp_path):
    folder = registry.path(publish(registry, staging).id)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert refusal(registry, folder.name).reason == "folder: is a symbolic link"


def test_a_directory_or_a_pipe_in_place_of_a_file_is_refused_without_waiting(registry, staging):
    path = registry.path(publish(registry, staging).id) / "adapter_config.json"
    path.unlink()
    os.mkfifo(path)
    assert refusal(registry, path.parent.name).reason == "adapter_config.json: is not a regular file"


def test_a_pickle_called_safetensors_is_refused(registry, staging):
    (staging / "adapter_model.safetensors").write_bytes(b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01a.")
    refused = refusal(registry, publish(registry, staging).id)
    assert refused.reason.startswith("adapter_model.safetensors: is not safetensors")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_dora", True),
        ("bias", "all"),
        ("modules_to_save", ["lm_head"]),
        ("rank_pattern", {"q_proj": 64}),
        ("alpha_pattern", {"q_proj": 1e9}),
        ("layer_replication", [[0, 2]]),
        ("peft_type", "IA3"),
        ("target_modules", "all-linear"),
        ("target_modules", ["../q_proj"]),
        ("target_modules", []),
        ("r", 12),
        ("r", True),
        ("lora_alpha", float("inf")),
        ("lora_alpha", -1),
        ("auto_mapping", {"parent_library": "os"}),
        ("trainable_token_indices", [1]),
        ("something_new", None),
    ],
)
def test_a_configuration_that_is_not_plain_lora_is_refused_naming_key_and_value(tmp_path, key, value):
    with pytest.raises(AdapterRefused) as caught:
        check_config(tmp_path / "x", json.dumps(CONFIG | {key: value}).encode(), MAX_RANK)
    assert caught.value.field == f"adapter_config.json: {key}"
    assert repr(str(value)) in caught.value.reason


def test_a_rank_over_the_engines_is_refused(registry, tmp_path):
    id = publish(registry, write_lora(tmp_path / "r32", tensors=weights(rank=32), r=32)).id
    assert registry.verify(id, 32).rank == 32
    assert refusal(registry, id, 16).reason == "adapter_config.json: r: 32 is more than the engine's 16"


def test_what_peft_writes_is_accepted(tmp_path):
    config = pytest.importorskip("peft").LoraConfig(r=8, target_modules=["q_proj"], task_type="CAUSAL_LM", inference_mode=True)
    config.save_pretrained(tmp_path)
    shape = check_config(tmp_path, (tmp_path / "adapter_config.json").read_bytes(), MAX_RANK)
    assert (shape.rank, shape.alpha, shape.target_modules, shape.scale) == (8, 8, ("q_proj",), 1.0)


A, B = f"{MODULE}.lora_A.weight", f"{MODULE}.lora_B.weight"


def spoiled(key: str, value: float) -> dict[str, np.ndarray]:
    tensors = weights()
    tensors[key].flat[5] = value
    return tensors


@pytest.mark.parametrize(
    ("tensors", "field", "reason"),
    [
        (spoiled(A, np.nan), A, "holds NaN or infinity"),
        (spoiled(B, -np.inf), B, "holds NaN or infinity"),
        (spoiled(B, 1e30), MODULE.removeprefix("base_model.model."), "is over 10000"),
        (weights(rank=16), A, "shape [16, 4] does not fit rank 8"),
        ({A: weights()[A]}, MODULE.removeprefix("base_model.model."), "has only lora_A"),
        (weights() | {A: weights()[A].astype(np.float64)}, A, "dtype F64"),
        (weights() | {A: weights()[A].astype(np.int32)}, A, "dtype I32"),
        (
            weights() | {"base_model.model.lm_head.weight": np.ones((2, 2), np.float32)},
            "base_model.model.lm_head.weight",
            "not a",
        ),
        (weights() | {A.replace("q_proj", "v_proj"): weights()[A]}, A.replace("q_proj", "v_proj"), "not a LoRA weight of a"),
        ({}, "q_proj", "has no weights"),
    ],
)
def test_weights_that_are_unfit_are_refused_naming_the_tensor(registry, tmp_path, tensors, field, reason):
    refused = refusal(registry, publish(registry, write_lora(tmp_path / "bad", tensors=tensors)).id)
    assert refused.field == f"adapter_model.safetensors: {field}"
    assert reason in refused.reason


def test_the_norm_bound_is_on_scale_times_the_product_of_both_norms(registry, tmp_path):
    def of(value: float, seed: int) -> AdapterManifest:  # |A| = |B| = value * sqrt(32), scale 16/8 = 2
        tensors = {A: np.full((8, 4), value, np.float32), B: np.full((4, 8), value, np.float32)}
        return publish(registry, write_lora(tmp_path / f"n{seed}", tensors=tensors))

    limit = (MAX_UPDATE_NORM / (2 * 32)) ** 0.5
    registry.verify(of(limit * 0.999, 0).id, MAX_RANK)
    assert "norm" in refusal(registry, of(limit * 1.001, 1).id).reason


def test_bfloat16_and_float16_weights_are_read_without_torch(registry, tmp_path):
    half = {key: value.astype(np.float16) for key, value in weights().items()}
    registry.verify(publish(registry, write_lora(tmp_path / "f16", tensors=half)).id, MAX_RANK)
    for name, bits, fits in (("one", 0x3F80, True), ("nan", 0x7FC0, False), ("infinity", 0x7F80, False)):
        header = {
            key: {"dtype": "BF16", "shape": list(shape), "data_offsets": [64 * i, 64 * i + 64]}
            for i, (key, shape) in enumerate([(A, (8, 4)), (B, (4, 8))])
        }
        text = json.dumps(header).encode()
        folder = write_lora(tmp_path / name)
        data = len(text).to_bytes(8, "little") + text + np.full(64, bits, "<u2").tobytes()
        (folder / "adapter_model.safetensors").write_bytes(data)
        id = publish(registry, folder).id
        if fits:
            registry.verify(id, MAX_RANK)
        else:
            assert "NaN" in refusal(registry, id).reason


def test_files_altered_together_with_their_manifest_are_still_checked_for_content(registry, staging):
    id = publish(registry, staging).id
    save_file(spoiled(A, np.nan), registry.path(id) / "adapter_model.safetensors")
    assert refusal(registry, id).field == "adapter_model.safetensors: sha256"
    assert "NaN" in refusal(registry, resealed(registry, id)).reason


def test_a_manifest_that_says_another_rank_than_the_configuration_is_refused(registry, staging):
    id = publish(registry, staging).id
    path = registry.path(id) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rank": 4}))
    assert refusal(registry, resealed(registry, id)).field == "adapter_config.json: r"


def test_a_gates_figures_must_be_numbers():
    with pytest.raises(ValueError, match="finite"):
        GateResult(name="x", passed=True, value=float("nan"))
