"""vLLM's platform for CPUs with a LoRA that is a few times as fast, as one of vLLM's own plugins.

vLLM finds it by the entry point ``vllm.platform_plugins`` of this package wherever Plaudit is installed, unless
``VLLM_TARGET_DEVICE=cpu`` keeps all plugins out or ``VLLM_PLUGINS`` names others. Where vLLM would not take its plain CPU
platform, ours stays away. What it is worth tell ``plaudit bench engine`` and ``VLLM_PLUGINS= plaudit bench engine``.
"""

from __future__ import annotations


def platform() -> str | None:
    """The class of the platform, as ``module.Class``; None where another one is to be taken."""
    from vllm.platforms import cpu_platform_plugin

    return "serving.vllm_cpu.platform.GroupedLoraCpu" if cpu_platform_plugin() == "vllm.platforms.cpu.CpuPlatform" else None
