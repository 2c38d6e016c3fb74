"""Rollouts from the real vLLM: what it samples is what the trainer computes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ops.settings import EngineSettings
from serving.engine_command import EngineNotInstalled, engine_command, installed_device, usable_cpus
from trainer.batches import TokenBatch
from trainer.policy import AdapterModel
from trainer.rollouts import EngineRollouts, Sample

PROMPTS = [[65, 66, 67, 68, 69, 70, 71], [80], [90, 91, 92]]
ASK = {"n": 8, "temperature": 1.0, "max_new_tokens": 16, "seed": 0}


@pytest.fixture(scope="module")
def folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with heads of 32, the least that vLLM serves on a CPU."""
    made = tmp_path_factory.mktemp("served")
    tiny = AdapterModel.load(tiny_folder, rank=8, alpha=16)
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 32}
    config = LlamaConfig(
        vocab_size=len(tiny.tokenizer),
        initializer_range=0.2,
        tie_word_embeddings=True,
        max_position_embeddings=256,
        eos_token_id=tiny.eos_token,
        dtype="float32",
        **shape,
    )
    LlamaForCausalLM(config).save_pretrained(made)
    tiny.tokenizer.save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def engine(folder: Path, tmp_path_factory: pytest.TempPathFactory, require: Callable[[str, str], None]) -> Iterator[str]:
    run = tmp_path_factory.mktemp("run")
    socket, output = run / "engine.sock", run / "engine.log"
    try:
        device = installed_device()
    except EngineNotInstalled as error:
        require("vllm", str(error))
    command = engine_command(EngineSettings(), model=folder, socket=socket, device=device, environ=os.environ, cpus=usable_cpus())
    with output.open("wb") as log:
        process = subprocess.Popen(
            command.argv, env=dict(command.environment), stdout=log, stderr=log, start_new_session=True, cwd=run
        )
    try:
        _wait_until_it_answers(process, socket, output)
        yield f"unix:{socket}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def _wait_until_it_answers(process: subprocess.Popen[bytes], socket: Path, output: Path) -> None:
    deadline = time.monotonic() + 240
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://engine", timeout=5) as client:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if client.get("/v1/models").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.2)  # between two polls of another process, which announces nothing
    pytest.fail(f"vLLM did not start: {output.read_text()[-2000:]}")


def difference(model: AdapterModel, name: str, samples: list[Sample]) -> float:
    batch = TokenBatch.pack([s.prompt_tokens for s in samples], [s.tokens for s in samples])
    own = model.response_logprobs(name, batch)[batch.response_mask]
    return (own - torch.tensor([p for s in samples for p in s.logprobs])).abs().max().item()


def test_the_engine_samples_from_the_policy_as_the_trainer_knows_it(folder: Path, engine: str, tmp_path: Path):
    model = AdapterModel.load(folder, rank=8, alpha=16)
    model.add("policy")
    source = EngineRollouts(engine, model, tmp_path)
    assert difference(model, "base", source.generate("base", PROMPTS, **ASK)) < 1e-4
    for seed in (0, 1):  # every iterate anew: the second would differ if the engine still used the first
        generator = torch.Generator().manual_seed(seed)
        for weight in model.weights("policy").values():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
        samples = source.generate("policy", PROMPTS, **ASK)
        assert difference(model, "policy", samples) < 1e-4
        assert difference(model, "base", samples) > 0.1
        assert [s.prompt_index for s in samples] == [i for i in range(3) for _ in range(8)]
        assert all(s.ended == (s.tokens[-1] == model.eos_token) for s in samples)
        assert all(s.ended or len(s.tokens) == 16 for s in samples)
    with httpx.Client(transport=httpx.HTTPTransport(uds=engine.removeprefix("unix:")), base_url="http://engine") as client:
        assert [card["id"] for card in client.get("/v1/models").json()["data"]] == ["base"]
    assert list(tmp_path.iterdir()) == []


def test_prompts_drawn_together_do_not_share_their_random_numbers(folder: Path, engine: str, tmp_path: Path):
    model = AdapterModel.load(folder, rank=8, alpha=16)
    samples = EngineRollouts(engine, model, tmp_path).generate("base", [PROMPTS[0]] * 6, **ASK)
    assert len({s.tokens for s in samples}) == len(samples)
