"""vLLM's command line and environment, on a CPU and on a GPU."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from ops.settings import EngineSettings
from serving.engine_command import EngineCommand, EngineNotInstalled, engine_command, installed_device


def command(
    folder: Path,
    device: Any = "cpu",
    environ: dict[str, str] | None = None,
    cpus: int = 4,
    threads: int | None = None,
    **config: Any,
) -> EngineCommand:
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 512, "dtype": "float32"} | config))
    sizes = {"max_loras": 3, "max_cpu_loras": 9, "max_lora_rank": 32, "kv_cache_gb": 2}
    settings = EngineSettings(**sizes, threads=threads, extra_args=("--seed", "5"))
    return engine_command(settings, model=folder, socket=Path("/run/e.sock"), device=device, environ=environ or {}, cpus=cpus)


def flag(made: EngineCommand, name: str) -> str:
    return made.argv[made.argv.index(name) + 1]


def test_the_settings_become_flags_and_the_base_is_served_as_base(tmp_path):
    made = command(tmp_path)
    given = {name: flag(made, name) for name in ("--max-loras", "--max-cpu-loras", "--max-lora-rank", "--uds")}
    assert given == {"--max-loras": "3", "--max-cpu-loras": "9", "--max-lora-rank": "32", "--uds": "/run/e.sock"}
    assert flag(made, "--served-model-name") == "base"
    assert flag(made, "--logprobs-mode") == "processed_logprobs"
    assert flag(made, "--scheduling-policy") == "priority"
    assert made.argv[-2:] == ("--seed", "5")


@pytest.mark.parametrize(("longest", "length"), [(512, "512"), (131072, "2048"), (None, "2048")])
def test_the_context_is_the_models_but_at_most_2048(tmp_path, longest, length):
    assert flag(command(tmp_path, max_position_embeddings=longest), "--max-model-len") == length


@pytest.mark.parametrize(("config", "dtype"), [({"dtype": "float32"}, "float32"), ({"dtype": "bfloat16"}, "auto")])
def test_on_a_cpu_a_float32_model_is_not_rounded(tmp_path, config, dtype):
    assert flag(command(tmp_path, **config), "--dtype") == dtype


def test_on_a_cpu_a_whole_prompt_fits_into_one_step_as_prompts_are_not_prefilled_in_parts(tmp_path):
    made = command(tmp_path, max_position_embeddings=512)
    assert "--no-enable-chunked-prefill" in made.argv
    assert int(flag(made, "--max-num-batched-tokens")) >= int(flag(made, "--max-model-len"))
    assert int(flag(made, "--max-num-seqs")) > 128  # the trainer's batch leaves room for chats


def test_on_a_gpu_nothing_of_the_cpus_is_set(tmp_path):
    made = command(tmp_path, "gpu")
    for name in ("--enforce-eager", "--dtype", "--block-size", "--no-enable-chunked-prefill", "--distributed-executor-backend"):
        assert name not in made.argv
    assert not [name for name in made.environment if "CPU" in name or name in ("OMP_NUM_THREADS", "TORCHDYNAMO_DISABLE")]
    assert made.environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"


@pytest.mark.parametrize(("cpus", "threads"), [(1, "1"), (2, "1"), (8, "7")])
def test_on_a_cpu_one_core_is_left_for_the_others_unless_environment_or_setting_say_otherwise(tmp_path, cpus, threads):
    assert command(tmp_path, cpus=cpus).environment["OMP_NUM_THREADS"] == threads
    assert command(tmp_path, cpus=cpus, environ={"OMP_NUM_THREADS": "3"}).environment["OMP_NUM_THREADS"] == "3"
    assert command(tmp_path, cpus=cpus, environ={"OMP_NUM_THREADS": "3"}, threads=2).environment["OMP_NUM_THREADS"] == "2"
    assert command(tmp_path).environment["VLLM_CPU_KVCACHE_SPACE"] == "2"


def test_our_own_variables_with_their_secret_stay_with_us_and_the_hub_is_not_asked(tmp_path):
    made = command(tmp_path, environ={"PLAUDIT_SECRET": "s", "PATH": "/bin"})
    assert made.environment["PATH"] == "/bin"
    assert "PLAUDIT_SECRET" not in made.environment
    assert made.environment["HF_HUB_OFFLINE"] == made.environment["VLLM_NO_USAGE_STATS"] == "1"


@pytest.mark.parametrize(
    ("packages", "device"),
    [({"vllm-cpu": "0.32.0"}, "cpu"), ({"vllm": "0.32.0"}, "gpu"), ({"vllm": "0.32.0+cpu"}, "cpu")],
)
def test_the_device_is_that_of_the_installed_package(packages, device):
    def version(name: str) -> str:
        if name not in packages:
            raise PackageNotFoundError(name)
        return packages[name]

    assert installed_device(version) == device


def test_without_vllm_the_error_says_what_to_install():
    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    with pytest.raises(EngineNotInstalled, match="make install"):
        installed_device(version)
