"""The CPU platform; apart from `serving.vllm_cpu.lora`, which can be imported only once vLLM knows what it runs on."""

from __future__ import annotations

from vllm.platforms.cpu import CpuPlatform


class GroupedLoraCpu(CpuPlatform):
    @classmethod
    def get_punica_wrapper(cls) -> str:
        return "serving.vllm_cpu.lora.GroupedLora"
