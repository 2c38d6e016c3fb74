"""Preparing models: whole or not at all, once, and with an error that says what to do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ops import models
from ops.models import ModelNotPrepared, ModelRef, ModelUnavailable, prepared
from ops.settings import SamplingSettings, Settings
from trainer import smollm2
from trainer import starter as recipes
from trainer.models import built, exclusively, prepare
from trainer.starter import Recipe

TINY = Recipe(steps=1, batch_size=2, hidden=32, layers=1, heads=1, intermediate=32, vocabulary=300, tokenizer_dialogues=50)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "tiny-chat"
    recipes.make(folder, TINY)
    return folder


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """A model of one's own to spoil."""
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


def settings(tmp_path: Path, model: Path | str) -> Settings:
    return Settings(data_dir=tmp_path / "data", model=str(model))


def test_a_model_that_nobody_prepared_says_which_command_to_run(tmp_path: Path):
    with pytest.raises(ModelNotPrepared, match="plaudit prepare --model starter"):
        prepared(settings(tmp_path, "starter"))


def test_a_local_model_is_used_where_it_is(tiny: Path, tmp_path: Path):
    ref = prepare(settings(tmp_path, tiny))
    assert ref == prepared(settings(tmp_path, tiny))
    assert ref.path == str(tiny)
    assert (ref.name, ref.domain) == ("tiny-chat", None)
    assert len(ref.digest) == 64


def test_the_digest_of_a_local_model_changes_with_its_weights_and_with_nothing_else(copy: Path, tiny: Path, tmp_path: Path):
    first = prepare(settings(tmp_path, copy))
    assert prepare(settings(tmp_path, tiny)).digest == first.digest
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x55")
    assert prepare(settings(tmp_path, copy)).digest != first.digest


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_a_local_model_with_a_file_missing_is_refused_by_its_name(copy: Path, tmp_path: Path, missing: str):
    (copy / missing).unlink()
    with pytest.raises(ModelUnavailable, match=rf"copy: no {missing}"):
        prepare(settings(tmp_path, copy))


def test_a_path_without_a_model_is_refused(tmp_path: Path):
    with pytest.raises(ModelUnavailable, match="there is no such folder"):
        prepare(settings(tmp_path, tmp_path / "nowhere"))


def test_a_model_without_a_chat_template_is_refused(copy: Path, tmp_path: Path):
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(ModelUnavailable, match="no chat template"):
        prepare(settings(tmp_path, copy))


def test_a_model_with_a_shard_missing_is_refused(copy: Path, tmp_path: Path):
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "part-1.safetensors"}}))
    with pytest.raises(ModelUnavailable, match=r"shards missing: part-1\.safetensors"):
        prepare(settings(tmp_path, copy))


def test_a_broken_configuration_is_refused(copy: Path, tmp_path: Path):
    (copy / "config.json").write_text("{")
    with pytest.raises(ModelUnavailable, match=r"config\.json is not JSON"):
        prepare(settings(tmp_path, copy))


def test_a_hub_model_without_a_network_says_what_to_do(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from ops.settings import Settings; from trainer.models import prepare\n"
        "prepare(Settings(data_dir=Path(sys.argv[1]), model='nobody/nothing'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "ModelUnavailable: model 'nobody/nothing' cannot be fetched from Hugging Face" in done.stderr
    assert "path of a local copy" in done.stderr
    assert not list((tmp_path / "models").glob("*/model.json"))
    assert not list((tmp_path / "models").glob(".building-*"))


def test_a_name_that_is_no_hub_id_is_refused(tmp_path: Path):
    with pytest.raises(ModelUnavailable, match="neither 'smollm2' nor 'starter', nor a folder"):
        prepare(settings(tmp_path, "not a model!"))


def test_a_preparation_killed_in_the_middle_leaves_no_model_and_the_next_one_clears_up(tmp_path: Path):
    folder = tmp_path / "starter"
    code = (
        "import sys; from pathlib import Path\n"
        "from ops.models import ModelRef; from trainer.models import built, exclusively\n"
        "from trainer.starter import Recipe, make\n"
        "folder, recipe = Path(sys.argv[1]), Recipe(steps=10**9)\n"
        "def build(staging, progress):\n"
        "    (staging / 'config.json').write_text('{}'); make(staging, recipe)\n"
        "with exclusively(folder): built(ModelRef('starter', '', ''), folder, 'endless', build, print)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob(".building-starter-*/config.json")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    assert models.read(folder) is None
    assert not list(tmp_path.rglob("model.json"))

    with exclusively(folder):
        assert not list(tmp_path.glob(".building-*"))
        ref = built(ModelRef("starter", "", ""), folder, "tiny", lambda staging, _: recipes.make(staging, TINY), print)
    assert models.read(folder) == ref
    assert (Path(ref.path) / "model.safetensors").is_file()


def test_a_build_that_fails_leaves_the_old_model_in_place_and_nothing_else(tiny: Path, tmp_path: Path):
    folder = tmp_path / "starter"

    def copied(staging: Path, progress: object) -> None:
        shutil.copytree(tiny, staging, dirs_exist_ok=True)

    def broken(staging: Path, progress: object) -> None:
        copied(staging, progress)
        (staging / "tokenizer.json").unlink()

    old = built(ModelRef("starter", "", ""), folder, "old", copied, print)
    with pytest.raises(ModelUnavailable, match=r"no tokenizer\.json"):
        built(ModelRef("starter", "", ""), folder, "new", broken, print)
    assert models.read(folder) == old
    assert sorted(path.name for path in tmp_path.iterdir()) == ["starter"]


def test_preparations_at_the_same_time_build_once(tiny: Path, tmp_path: Path):
    folder, builds, refs = tmp_path / "starter", [], []

    def build(staging: Path, progress: object) -> None:
        builds.append(staging)
        shutil.copytree(tiny, staging, dirs_exist_ok=True)

    def work() -> None:
        with exclusively(folder):
            refs.append(built(ModelRef("starter", "", ""), folder, "same", build, lambda what, share: None))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(builds) == 1
    assert len(refs) == 4
    assert len(set(refs)) == 1


def test_waiting_for_another_preparation_ends_with_an_error(tmp_path: Path):
    def second() -> None:
        with exclusively(tmp_path / "starter", timeout_s=0.05):
            pytest.fail("two preparations at once")

    with exclusively(tmp_path / "starter"), pytest.raises(ModelUnavailable, match="another process"):
        second()


def test_another_recipe_is_built_anew(tiny: Path, tmp_path: Path):
    builds = []

    def build(staging: Path, progress: object) -> None:
        builds.append(staging)
        shutil.copytree(tiny, staging, dirs_exist_ok=True)

    for recipe in ("one", "one", "two"):
        built(ModelRef("starter", "", ""), tmp_path / "starter", recipe, build, print)
    assert len(builds) == 2


def test_a_folder_of_models_can_be_moved(tiny: Path, tmp_path: Path):
    def build(staging: Path, progress: object) -> None:
        shutil.copytree(tiny, staging, dirs_exist_ok=True)

    (tmp_path / "here").mkdir()
    old = built(ModelRef("starter", "", ""), tmp_path / "here" / "starter", "one", build, print)
    (tmp_path / "here").rename(tmp_path / "there")
    moved = models.read(tmp_path / "there" / "starter")
    assert moved is not None
    assert moved.digest == old.digest
    assert Path(moved.path, "config.json").is_file()


def test_two_models_never_share_a_folder(tmp_path: Path):
    (tmp_path / "a" / "model").mkdir(parents=True)
    (tmp_path / "b" / "model").mkdir(parents=True)
    names = ["starter", "smollm2", "org/name", str(tmp_path / "a" / "model"), str(tmp_path / "b" / "model"), "../starter"]
    slugs = [models.slug(name) for name in names]
    assert len(set(slugs)) == len(names)
    assert all("/" not in slug and not slug.startswith(".") for slug in slugs)


def test_the_starters_own_temperatures_hold_unless_the_settings_say_otherwise():
    ref = ModelRef("starter", "/x", "0" * 64, domain="starter", temperature=1.0, pair_temperature=1.0)
    assert ref.sampling(SamplingSettings()).temperature == 1.0
    assert ref.sampling(SamplingSettings()).pair_temperature == 1.0
    assert ref.sampling(SamplingSettings(temperature=0.5)).temperature == 0.5
    assert ModelRef("m", "/x", "0" * 64).sampling(SamplingSettings()).temperature == 0.3


def test_smollm2_is_found_where_its_wheel_was_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / smollm2.PACKAGE).mkdir()
    file = tmp_path / smollm2.PACKAGE / "SmolLM2.gguf"
    file.write_bytes(b"GGUF")
    (file.parent / "__init__.py").touch()
    assert smollm2.find(tmp_path).suffix == ".gguf"
    monkeypatch.syspath_prepend(str(tmp_path))
    assert smollm2.find(tmp_path / "elsewhere") == file
